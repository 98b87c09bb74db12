package metadata

import "strconv"

// Error makes a reason the cause of an error. ReasonNone is none, and never one.
func (r Reason) Error() string {
	texts := [...]string{
		ReasonUnknownTopic:   "unknown topic or partition",
		ReasonTopicExists:    "topic exists",
		ReasonOffsetMismatch: "the next offset is not the expected one",
		ReasonSequenceGap:    "out of order sequence",
		ReasonFencedProducer: "a newer epoch of this producer is known",
		ReasonProducerLimit:  "no room for one more producer",
		ReasonTopicChanged:   "topic was changed meanwhile",
		ReasonInvalid:        "invalid in this state",
		ReasonOldSequence:    "duplicate of a batch too old to remember its offset",
	}
	if int(r) < len(texts) && texts[r] != "" {
		return texts[r]
	}
	return "reason " + strconv.Itoa(int(r))
}
