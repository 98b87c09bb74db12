package metadata

// The kinds of State. They are in every entry ever written: a number is never reused, and a changed body gets a new number.
const (
	kindCreateTopic     Kind = 1
	kindAlterTopic      Kind = 2
	kindGrowTopic       Kind = 3
	kindActivateTopic   Kind = 4
	kindDeleteTopic     Kind = 5
	kindForgetTopic     Kind = 6
	kindAddPartitions   Kind = 7
	kindDropTopic       Kind = 8
	kindCommit          Kind = 9  // refers to its rows
	kindCommitRows      Kind = 10 // carries its rows
	kindFence           Kind = 11
	kindRetireBoots     Kind = 12
	kindTrim            Kind = 13
	kindExpireProducers Kind = 14

	// 15 is Replace (rows of a window by merged segments), 16 to 18 are begin, prepare and end of a transaction.
)

// operation is a decoded command other than a commit.
type operation interface {
	decode(r *reader)
	// check finds what decodes but must not enter an entry. Rules of content only: Apply does not ask it, so that
	// a rule may change without making old entries unreadable.
	check() error
	apply(s *State, at Position) (result any)
}

func operationOf(k Kind) (operation, bool) {
	switch k {
	case kindCreateTopic:
		return new(CreateTopic), true
	case kindAlterTopic:
		return new(AlterTopic), true
	case kindGrowTopic:
		return new(GrowTopic), true
	case kindActivateTopic:
		return new(ActivateTopic), true
	case kindDeleteTopic:
		return new(DeleteTopic), true
	case kindForgetTopic:
		return new(ForgetTopic), true
	case kindAddPartitions:
		return new(AddPartitions), true
	case kindDropTopic:
		return new(DropTopic), true
	case kindFence:
		return new(Fence), true
	case kindRetireBoots:
		return new(RetireBoots), true
	case kindTrim:
		return new(Trim), true
	case kindExpireProducers:
		return new(ExpireProducers), true
	}
	return nil, false
}
