package localstack

import "testing"

func TestPortsAreGivenOutOnce(t *testing.T) {
	var p Ports
	seen := map[string]bool{}
	for range 500 {
		address, err := p.Address()
		if err != nil {
			t.Fatal(err)
		}
		if seen[address] {
			t.Fatalf("%s was given out twice", address)
		}
		seen[address] = true
	}
}
