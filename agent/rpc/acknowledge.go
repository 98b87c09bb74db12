package rpc

import (
	"context"
	"fmt"

	"github.com/splashdam/splashdam/agent"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/queues"
)

const (
	opAcknowledge = "acknowledge"

	tokensMax = 10_000 // of one call
	// refusedBytes is about what a refused token or dead letter takes in an answer.
	refusedBytes = 512
)

// Acknowledge implements QueueService.
func (e *edge) Acknowledge(ctx context.Context, r *v1.AcknowledgeRequest) (*v1.AcknowledgeResponse, error) {
	verdicts, tokens, err := verdictsOf(r)
	if err != nil {
		return nil, err
	}
	if err := e.mayConsume(ctx, r.GetGroup(), r.GetTopic(), ""); err != nil {
		return nil, err
	}
	// Before anything is done: there is no answer to what was done then that has no memory.
	if err := e.claimOf(ctx).take(ctx, int64(tokens)*refusedBytes); err != nil {
		return nil, err
	}
	check := tokenCheck{edge: e, topic: r.GetTopic(), seen: make(map[deliveryToken]bool, tokens)}
	given := make([][]byte, 0, tokens)
	errs := make([]error, tokens) // of given
	all := make([]agent.Acknowledgement, 0, tokens)
	places := make([]int, 0, tokens) // in given, of all
	for i, item := range r.GetItems() {
		for j, b := range item.GetTokens() {
			t, why, err := check.check(ctx, tokenPath(i, j), b)
			if err != nil {
				return nil, err
			}
			if errs[len(given)] = why; why == nil {
				a := verdicts[i]
				a.Place, a.Offset, a.Lock = t.Place, t.offset, t.lock
				all, places = append(all, a), append(places, len(given))
			}
			given = append(given, b)
		}
	}
	if len(all) > 0 {
		decided, err := e.engine.Acknowledge(ctx, r.GetGroup(), all)
		if err != nil {
			return nil, err
		}
		for i, err := range decided {
			errs[places[i]] = err
		}
	}
	out := &v1.AcknowledgeResponse{}
	for i, err := range errs {
		if err != nil {
			out.Refused = append(out.Refused, e.refusedToken(given[i], err))
		}
	}
	return out, nil
}

// verdictsOf checks all but the tokens, which it counts. It answers what is said of those of each item.
func verdictsOf(r *v1.AcknowledgeRequest) (verdicts []agent.Acknowledgement, tokens int, err error) {
	if err := checkQueue(opAcknowledge, r.GetGroup(), r.GetTopic()); err != nil {
		return nil, 0, err
	}
	for i, item := range r.GetItems() {
		if len(item.GetTokens()) == 0 {
			return nil, 0, invalid(opAcknowledge, fmt.Sprintf("items[%d].tokens", i), "want at least one")
		}
		if tokens += len(item.GetTokens()); tokens > tokensMax {
			return nil, 0, invalid(opAcknowledge, "items", "more than %d tokens at once", tokensMax)
		}
	}
	if tokens == 0 {
		return nil, 0, invalid(opAcknowledge, "items", "want at least one")
	}
	for i, item := range r.GetItems() {
		a, err := verdictOf(fmt.Sprintf("items[%d]", i), item)
		if err != nil {
			return nil, 0, err
		}
		verdicts = append(verdicts, a)
	}
	return verdicts, tokens, nil
}

var verdicts = map[v1.Verdict]queues.Verdict{
	v1.Verdict_VERDICT_ACCEPT:  queues.Accept,
	v1.Verdict_VERDICT_RELEASE: queues.Release,
	v1.Verdict_VERDICT_REJECT:  queues.Reject,
	v1.Verdict_VERDICT_EXTEND:  queues.Extend,
	v1.Verdict_VERDICT_RETURN:  queues.Return,
}

// verdictOf refuses what the verdict has no use for: it was meant for another.
func verdictOf(path string, item *v1.AcknowledgeRequest_Item) (agent.Acknowledgement, error) {
	out := agent.Acknowledgement{Verdict: verdicts[item.GetVerdict()], Error: queues.CutError(item.GetError())}
	if out.Verdict == 0 {
		return out, invalid(opAcknowledge, path+".verdict", "%v: want ACCEPT, RELEASE, REJECT, EXTEND or RETURN", item.GetVerdict())
	}
	if out.Verdict != queues.Release && item.GetDelay() != nil {
		return out, invalid(opAcknowledge, path+".delay", "only with RELEASE")
	}
	if out.Verdict != queues.Extend && item.GetLockTime() != nil {
		return out, invalid(opAcknowledge, path+".lock_time", "only with EXTEND")
	}
	if out.Error != "" && out.Verdict != queues.Release && out.Verdict != queues.Reject {
		return out, invalid(opAcknowledge, path+".error", "only with RELEASE and REJECT")
	}
	var err error
	switch out.Verdict {
	case queues.Release:
		out.Wait, err = between(opAcknowledge, path+".delay", item.GetDelay(), 0, queues.WaitMax)
	case queues.Extend:
		if out.Wait, err = between(opAcknowledge, path+".lock_time", item.GetLockTime(), lockMin, queues.WaitMax); out.Wait == 0 {
			out.Wait = lockDefault
		}
	}
	return out, err
}
