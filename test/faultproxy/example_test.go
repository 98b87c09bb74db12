package faultproxy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/splashdam/splashdam/test/faultproxy"
)

// The answer to the first segment is lost; the second lands only after the third.
func Example() {
	bucket := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Println("landed:", r.URL.Path) }))
	defer bucket.Close()
	proxy, err := faultproxy.Start(faultproxy.Config{Target: bucket.URL, Seed: 1})
	if err != nil {
		panic(err)
	}
	defer proxy.Close()
	err = proxy.SetRules(
		faultproxy.Rule{Match: faultproxy.Match{Kind: "put", Nth: 1}, Action: faultproxy.Action{Do: faultproxy.DropReply}},
		faultproxy.Rule{Match: faultproxy.Match{Kind: "put", KeyContains: "seg/2"}, Action: faultproxy.Action{Do: faultproxy.Hold}},
	)
	if err != nil {
		panic(err)
	}
	for _, key := range []string{"seg/1", "seg/2", "seg/3"} {
		req, _ := http.NewRequest(http.MethodPut, proxy.Endpoint+"/bucket/"+key, strings.NewReader("records"))
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		fmt.Println("client:", key, err == nil)
	}
	for _, late := range proxy.ReleaseAll() {
		fmt.Println("late answer:", late.Key, late.Answer)
	}
	fmt.Println("forwarded:", proxy.Counts()["put"].Forwarded)
	// Output:
	// landed: /bucket/seg/1
	// client: seg/1 false
	// client: seg/2 false
	// landed: /bucket/seg/3
	// client: seg/3 true
	// landed: /bucket/seg/2
	// late answer: seg/2 200
	// forwarded: 3
}
