package objectlog

import "testing"

// The vectors are those of Kafka's own UtilsTest.testMurmur2.
func TestPartitionForHashesAsKafkaDoes(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
		if got, want := PartitionFor([]byte(key), 7), Partition((want&0x7fffffff)%7); got != want {
			t.Errorf("PartitionFor(%q, 7) = %d, want %d", key, got, want)
		}
	}
}

func TestPartitionForStaysInRange(t *testing.T) {
	for n := int32(1); n < 20; n++ {
		for k := range 256 {
			if p := PartitionFor([]byte{byte(k), byte(n)}, n); p < 0 || int32(p) >= n {
				t.Fatalf("PartitionFor(%d, %d) = %d", k, n, p)
			}
		}
	}
}
