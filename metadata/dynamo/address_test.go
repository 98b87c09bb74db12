package dynamo

import (
	"strings"
	"testing"
)

func TestAddressNamesTableEndpointAndRegion(t *testing.T) {
	for address, want := range map[string]Config{
		"dynamodb://orders":                                    {Table: "orders"},
		"dynamodb://Orders_1.x-y/":                             {Table: "Orders_1.x-y"},
		"dynamodb://orders?region=eu-central-1":                {Table: "orders", Region: "eu-central-1"},
		"dynamodb://orders?endpoint=http://127.0.0.1:8000":     {Table: "orders", Endpoint: "http://127.0.0.1:8000"},
		"dynamodb://orders?endpoint=https%3A%2F%2Fdb&region=x": {Table: "orders", Endpoint: "https://db", Region: "x"},
	} {
		if got, err := ParseAddress(address); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", address, got, err, want)
		}
	}
}

func TestWrongAddressIsRefusedWithTheRightForm(t *testing.T) {
	for _, address := range []string{
		"", "orders", "s3://orders", "dynamodb:orders", "dynamodb://", "dynamodb://ab", "dynamodb://a b c", "dynamodb://ord%2fers", "dynamodb://" + strings.Repeat("x", 256),
		"dynamodb://orders/more", "dynamodb://orders#x", "dynamodb://orders?table=x", "dynamodb://orders?region=", "dynamodb://orders?region=a&region=b",
		"dynamodb://orders?endpoint=127.0.0.1:8000", "dynamodb://orders?endpoint=ftp://x", "dynamodb://orders?region=EU/1", "dynamodb://key:secret@orders",
		"dynamodb://orders:8000", "dynamodb://orders?endpoint=http://user:pass@host", "dynamodb://orders?%zz",
	} {
		got, err := ParseAddress(address)
		if err == nil || !strings.Contains(err.Error(), "want dynamodb://table?endpoint=") || got != (Config{}) {
			t.Errorf("%q: %+v, %v", address, got, err)
		}
	}
}

func TestErrorsAboutAddressesShowNoSecret(t *testing.T) {
	for address, shown := range map[string]string{
		"dynamodb://AKIA:TOPSECRET@events":                                     `"dynamodb://***@events"`,
		"dynamodb://AKIA:TOPSECRET%40events":                                   "", // no URL
		"dynamodb://AKIA:TOP/SECRET@events":                                    "", // no URL
		"dynamodb://AKIATOP/SECRET@events":                                     `"dynamodb://***@events"`,
		"dynamodb://AKIA:TOP@SECRET@events":                                    `"dynamodb://***@events"`,
		"dynamodb://events?endpoint=http://u:TOPSECRET@host:8000":              `"dynamodb://***@host:8000"`,
		"dynamodb://events?endpoint=http://u:TOPSECRET@host&region=x@y":        `"dynamodb://***@y"`,
		"dynamodb://events?endpoint=http%3A%2F%2Fu%3ATOPSECRET%40host":         `"dynamodb://***%40host"`,
		"dynamodb://events?endpoint=http%3A%2F%2Fu%3ATOPSECRET%2540host":       `"dynamodb://***%2540host"`,
		"dynamodb://events?endpoint=http%253A%252F%252Fu%253ATOPSECRET%252540": `"dynamodb://***%252540"`,
		"dynamodb://events?TOPSECRET@=1":                                       `"dynamodb://***@=1"`,
		"dynamodb:AKIA:TOPSECRET@events":                                       `"***@events"`,
		"AKIATOPSECRET//SECRET@events":                                         `"***@events"`,
		"AKIA:TOPSECRET@events//x":                                             `"***@events//x"`,
	} {
		_, err := ParseAddress(address)
		if err == nil || strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "TOP") {
			t.Errorf("%s: %v", address, err)
			continue
		}
		if shown == "" {
			shown = "not shown because of its @"
		}
		wantError(t, err, "table address", shown, "credentials do not belong into an address")
	}
	for _, cfg := range []Config{
		{Table: "orders", Endpoint: "http://u:TOPSECRET@host"}, {Table: "orders", Endpoint: "http://u:TOPSECRET%40host"}, {Table: "u:TOPSECRET@orders"},
		{Table: "orders", Region: "u:TOPSECRET@x"},
	} {
		if _, err := Open(t.Context(), cfg); err == nil || strings.Contains(err.Error(), "TOPSECRET") {
			t.Errorf("open: %v", err)
		}
	}
}

func FuzzParseAddressAnswersAValidConfigOrAnError(f *testing.F) {
	f.Add("dynamodb://orders?endpoint=http://127.0.0.1:8000&region=eu-central-1")
	f.Add("dynamodb://ab")
	f.Add("dynamodb://orders?x=1")
	f.Fuzz(func(t *testing.T, address string) {
		if cfg, err := ParseAddress(address); err == nil && cfg.validate() != nil || err != nil && cfg != (Config{}) {
			t.Errorf("%q: %+v, %v", address, cfg, err)
		}
	})
}

func TestOpenWantsARegionWhereTheEndpointDoesNotSayIt(t *testing.T) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	_, err := Open(t.Context(), Config{Table: "orders"})
	wantError(t, err, "no Region", "AWS_REGION")
	if _, err := Open(t.Context(), Config{Table: "a b"}); err == nil {
		t.Error("opened a table of a name that cannot be")
	}
	if _, err := Open(t.Context(), Config{Table: "orders", Region: "eu-central-1"}); err != nil {
		t.Error(err)
	}
}
