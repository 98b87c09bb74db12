package faultproxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// rulesBytesMax is the longest list of rules that is read.
const rulesBytesMax = 1 << 20

// Control is the proxy's remote control, in JSON. It changes nothing but faults and asks for no password: serve it on loopback.
//
//	GET, PUT, DELETE /rules      a list of Rule; PUT replaces it
//	PUT, DELETE      /cut        Cut, Mend
//	GET              /held       how many requests are held
//	POST             /release    Release all, or ?n=1; the Faults with the late answers
//	GET              /counts     by kind, Count
//	GET              /faults     the newest Faults
func (p *Proxy) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rules", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, p.rules.current()) })
	mux.HandleFunc("PUT /rules", p.putRules)
	mux.HandleFunc("DELETE /rules", func(http.ResponseWriter, *http.Request) { p.rules.set(nil) })
	mux.HandleFunc("PUT /cut", func(http.ResponseWriter, *http.Request) { p.Cut() })
	mux.HandleFunc("DELETE /cut", func(http.ResponseWriter, *http.Request) { p.Mend() })
	mux.HandleFunc("GET /held", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, p.Held()) })
	mux.HandleFunc("POST /release", p.postRelease)
	mux.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, p.Counts()) })
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, p.Faults()) })
	return mux
}

func (p *Proxy) putRules(w http.ResponseWriter, r *http.Request) {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, rulesBytesMax))
	decoder.DisallowUnknownFields()
	var list []Rule
	err := decoder.Decode(&list)
	if err == nil {
		err = p.SetRules(list...)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (p *Proxy) postRelease(w http.ResponseWriter, r *http.Request) {
	n := p.Held()
	if text := r.FormValue("n"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			http.Error(w, fmt.Sprintf("n=%q: want a number from 1", text), http.StatusBadRequest)
			return
		}
	}
	answerJSON(w, append([]Fault{}, p.Release(n)...))
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // an error is the reader's going away
}
