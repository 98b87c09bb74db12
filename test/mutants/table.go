package main

// The tests that catch most: histories of three agents, small models explored whole, and the rules of single packages.
const (
	histories  = "./test/sim -run Histories -sim.seeds 600"
	damage     = "./test/sim -run Damage -sim.seeds 600"
	shardlog   = "./metadata/shardlog"
	state      = "./metadata"
	writing    = "./agent/write"
	objects    = "./objectlog/s3 -run PutDecides|Nobody|Cancelled"
	hedging    = "./objectlog/hedge"
	items      = "./metadata/dynamo -run Refusal|Throttling|CreateAll|Unknown|Applied|Requests"
	leadership = "./agent/lead"
	routing    = "./agent -run Stranger"
	joining    = "./agent -run Open|Prefix|Cluster|Making"
	consuming  = "./groups"
	handing    = "./queues -skip Stored -rapid.shrinktime 1s"
	driving    = "./agent -run CannotRenew|StandStill|OlderThanItsOwn|CommitThatMay|CommitsThatWait|Forgotten|PositionsAreCurrent"
	moving     = "./agent -run CrashAtEvery|TwoMovers|NoSecondCopy"
	kills      = "./test/e2e -run Kills -records 20000"
)

// mutants are the broken rules, in the order of the table of known holes.
var mutants = []mutant{
	{"H1", "a second append is sent while the first is undecided", "metadata/shardlog/append.go", []edit{
		{"import (\n", "import (\n\t\"sync\"\n"},
		{"\tif c.append == nil {\n\t\tc.appendNext()\n\t}\n", `	if c.append == nil {
		if s, ok := seconds.LoadAndDelete(c); ok && s.(*appending).entry.prevHash == c.tip.hash {
			c.append = s.(*appending)
		} else {
			c.appendNext()
		}
	}
`},
		{"\tc.readRing() // for current reads\n}\n", `	if _, has := seconds.Load(c); c.append != nil && !has && len(c.queue) > 0 {
		first, tip := c.append, c.tip
		c.tip.seq, c.tip.hash, c.append = first.entry.seq, hashOf(first.raw), nil
		c.form()
		if c.append != nil {
			seconds.Store(c, c.append)
			c.emit(PutItem{ID: c.nextID(), Item: c.append.item, Cond: c.append.cond})
		}
		c.append, c.tip = first, tip
	}
	c.readRing() // for current reads
}

var seconds sync.Map
`},
	}, histories},
	{"H2", "a put without an answer is taken for one that failed", "metadata/shardlog/claim.go", []edit{
		{"\t\t\tc.backoff(timerAppend, c.append.attempts) // by the slot only, for as long as it takes\n", `			for _, p := range c.append.proposals {
				c.emit(Decided{ID: p.id, Err: ErrNotLeader})
			}
			c.append = nil
`}}, histories},
	{"H3", "a fence does not refuse older segments", "metadata/commit.go", []edit{
		{"c.segment.Counter < b.fenced", "false && c.segment.Counter < b.fenced"}}, state},
	{"H5a", "the pointer names a snapshot that was not read back whole", "metadata/shardlog/checkpoint.go", []edit{
		{"_, err = p.check(e.Body, c.lease.ring)", "_, _ = p.check(e.Body, c.lease.ring)"}}, shardlog},
	{"H5b", "the append limit counts from the newest snapshot", "metadata/shardlog/append.go", []edit{
		{"return c.lease.prev.seq() + c.slots() - reserved", "return c.lease.cur.seq() + c.slots() - reserved"}}, shardlog},
	{"H6", "a snapshot claims the entry that is still on its way", "metadata/shardlog/checkpoint.go", []edit{
		{"\te := StoreSnapshot{", `	if c.append != nil {
		old := c.tip
		defer func() { c.tip = old }()
		c.tip = tip{seq: c.append.entry.seq, epoch: c.append.entry.epoch, hash: hashOf(c.append.raw), time: c.append.entry.time}
		name.Seq++
		c.snap.at = pointer{name: name, hash: c.tip.hash}
	}
	e := StoreSnapshot{`}}, histories},
	{"H7", "a ring is used although the creation of its slots is unknown", "metadata/shardlog/create.go", []edit{
		{"r.Outcome == metadata.Applied {\n\t\t\treturn createLease", "r.Outcome != metadata.Refused {\n\t\t\treturn createLease"}}, shardlog},
	{"H8", "object keys say nothing of the boot, and repeat after a restart", "objectlog/key.go", []edit{
		{"k.root(), n.spread(), n.Boot, n.Counter, n.Random)", "k.root(), byte(n.Counter>>6), UUID{}, n.Counter, uint32(n.Counter))"}}, histories},
	{"H9a", "a missing slot is taken for the end of the log", "metadata/shardlog/ring.go", []edit{
		{"\tif !e.Found {\n\t\tc.haltSlot(f.seq, \"a slot\", \"none\")\n\t\treturn\n\t}\n", "\tif !e.Found {\n\t\te.Item.Rev = metadata.Rev(f.seq - c.slots())\n\t}\n"}}, damage},
	{"H9b", "a snapshot that does not load is taken for none", "metadata/shardlog/follow.go", []edit{
		{"\t\tc.damaged[c.load.from.name] = err\n\t\tc.seek(c.find.why)\n\t\treturn\n", "\t\tif c.restore(pointer{}, snapshot{tip: tip{seq: c.load.from.seq(), hash: c.load.from.hash}}) {\n\t\t\tc.replay()\n\t\t}\n\t\treturn\n"}}, damage},
	{"H10a", "a commit that was decided is decided again", "metadata/commit.go", []edit{
		{"if c.segment.Counter <= b.decided {", "if c.segment.Counter+1 <= b.decided-b.decided {"}}, histories},
	{"H10b", "a producer's duplicate is appended again", "metadata/producer.go", []edit{
		{"\t\tfor _, known := range p.batches[:p.n] {\n\t\t\tif known.first == w.FirstSequence", "\t\tfor _, known := range p.batches[:p.n] {\n\t\t\tif known.first == w.FirstSequence && known.records == w.Records {\n\t\t\t\treturn b, true\n\t\t\t}\n\t\t\tif known.first == w.FirstSequence"}}, histories},
	{"H10c", "a duplicate is answered with the partition's end, not its offset", "metadata/producer.go", []edit{
		{"BatchResult{Base: known.base, Duplicate: true}", "BatchResult{Base: p.batches[p.n-1].base + objectlog.Offset(p.batches[p.n-1].records), Duplicate: true}"}}, histories},
	{"H12", "what is known of a producer outlives its epoch", "metadata/producer.go", []edit{
		{"p.epoch, p.n, p.seen = w.ProducerEpoch, 0, 0", "p.epoch = w.ProducerEpoch"}}, state},
	{"H13a", "a current read is answered without a look at the next slot", "metadata/shardlog/ring.go", []edit{
		{"\tif len(c.ring.asked) > 0 {\n\t\tc.ring.reading = true\n\t}\n", "\tif len(c.ring.asked) > 0 {\n\t\tc.answerCurrent(c.lastID + 1)\n\t}\n"}}, histories},
	{"H13b", "a look at the next slot serves requests that came after it was sent", "metadata/shardlog/ring.go", []edit{
		{"if id > a.after {", "if id > 0 {"}}, histories},
	{"H17", "a segment that is stored first is committed first", "agent/write/commit.go", []edit{
		{"if !s.stored || len(commits) == undecidedMax {\n\t\t\tbreak", "if !s.stored || len(commits) == undecidedMax {\n\t\t\tcontinue"}}, writing},
	{"H18", "state is changed when an entry is sent, not when it is committed", "metadata/shardlog/append.go", []edit{
		{"\tresults, ok := c.apply(&a.entry, a.raw, a.footers)\n\tif !ok {\n\t\treturn // halted: the proposals were answered as unknown\n\t}\n", "\tr, _ := early.LoadAndDelete(a)\n\tresults, _ := r.([]any)\n\tc.tip = tip{seq: a.entry.seq, epoch: a.entry.epoch, hash: hashOf(a.raw), time: a.entry.time}\n"},
		{"\tc.armed[timerAppend] = 0\n\tc.append = a\n}\n", "\tc.armed[timerAppend] = 0\n\tc.append = a\n\told := c.tip\n\tif results, ok := c.apply(&a.entry, a.raw, a.footers); ok {\n\t\tearly.Store(a, results)\n\t\tc.tip = old\n\t}\n}\n\nvar early sync.Map\n"},
		{"import (\n", "import (\n\t\"sync\"\n"},
	}, histories},
	{"H21", "a shard has no least time with a leader", "agent/lead/move.go", []edit{
		{"s.move += tenureLeases*c.cfg.Lease + c.chance(c.cfg.Lease)", "s.move += c.chance(1)"}}, leadership},
	{"H22", "an agent takes over everything at once behind an outage", "agent/lead/rank.go", []edit{
		{"claimsMax = 8\n", "claimsMax = 1 << 20\n"}}, leadership},
	{"H23a", "no slot is reserved, and a successor takes no snapshot from replay", "metadata/shardlog/append.go", []edit{
		{"return max(1, min(16, c.slots()/4))", "return 0"},
		{"\t\t\tc.checkpoint(true) // of the replayed state: it needs no slot\n\t\t\treturn\n", "\t\t\treturn\n"}}, histories},
	{"H23b", "a full ring wants a newer snapshot, not the same seq again", "metadata/shardlog/checkpoint.go", []edit{
		{"c.tip.seq == cur && !(full && cur > prev)", "c.tip.seq == cur && !(full && cur > prev && false)"}}, histories},
	{"H29", "a refusal by the own item is taken for a defeat", "metadata/shardlog/claim.go", []edit{
		{"case r.Current.Rev == a.item.Rev && bytes.Equal(r.Current.Value, a.item.Value):", "case r.Current.Rev == a.item.Rev && bytes.Equal(r.Current.Value, a.item.Value) && a.attempts < 0:"}}, histories},
	{"H30", "a command that Prepare refuses enters an entry", "metadata/shardlog/append.go", []edit{
		{"x.command, x.refused = m.Prepare(cmd); x.refused != nil {\n\t\t\tcontinue", "x.command, x.refused = m.Prepare(cmd); x.refused != nil {\n\t\t\tx.command, x.refused = cmd, nil"}}, shardlog},
	{"H31", "state takes the time from a clock, not from the entry", "metadata/commit.go", []edit{
		{"remember(w, base, j.at.Time)", "remember(w, base, objectlog.Timestamp(time.Now().UnixNano()))"},
		{"import (\n", "import (\n\t\"time\"\n"}}, histories},
	{"H32", "an entry of a later format is read like today's", "metadata/shardlog/codec.go", []edit{
		{"binary.BigEndian.Uint16(b[magicBytes:]) != formatLevel:", "binary.BigEndian.Uint16(b[magicBytes:]) < formatLevel:"}}, shardlog},
	{"L1", "a holder that refuses twice is gone for whoever finds it so", "agent/lead/rank.go", []edit{
		{"case rank == 0 && p.refused >= 2 &&", "case p.refused >= 2 &&"}}, leadership},
	{"L2", "refusals count against a holder that was never reached", "agent/lead/rank.go", []edit{
		{"c.now-p.refusal < c.cfg.Lease && p.held[s.number] == s.epoch", "c.now-p.refusal < c.cfg.Lease"}}, leadership},
	{"L3", "a shard is handed off by an agent that does not lead it", "agent/lead/move.go", []edit{
		{"if s.status.Role != shardlog.RoleLeading || s.handing ||", "if s.handing ||"}}, leadership},
	{"L4", "a deposed leader calls the append in flight never appended", "metadata/shardlog/core.go", []edit{
		{"unknown, never := ErrUnknown, ErrNotLeader\n", "unknown, never := ErrNotLeader, ErrNotLeader\n"}}, shardlog},
	{"L5", "a leader that cannot renew its lease goes on taking proposals", "metadata/shardlog/claim.go", []edit{
		{"\tc.armed[timerTenure] = c.confirmed + c.cfg.Lease\n", "\tc.armed[timerTenure] = c.confirmed + c.cfg.Lease<<20\n"}}, shardlog},
	{"L6", "a follower takes what a stream brings without a look at the chain", "metadata/shardlog/ring.go", []edit{
		{"if err := c.checkNext(n, s); err != nil {", "if err := c.checkNext(n, s); err != nil && s.id != 0 {"}}, histories},
	{"L7", "an agent passes a proposal on", "agent/route.go", []edit{
		{"return a.shards[s].replica.Propose(ctx, commands)", "return a.shards[s].log.Propose(ctx, commands)"}}, routing},
	{"L8", "a successor claims without a look at the lease item", "metadata/shardlog/follow.go", []edit{
		{"\tcase c.rank < 0 || w.since == 0:\n", "\tcase c.rank >= 0 && !holder.IsZero() && holder == c.gone:\n\t\treturn true\n\tcase c.rank < 0 || w.since == 0:\n"}}, shardlog},
	{"L9", "a state that differs from the leader's is no reason to stop", "metadata/shardlog/fingerprint.go", []edit{
		{"own.Hash != leader.Hash", "own.Hash != leader.Hash && false"}}, shardlog},
	{"I1", "a segment is committed before it is stored", "agent/write/commit.go", []edit{
		{"\ts.uploading = true\n\tc.uploads++\n", "\ts.uploading = true\n\tc.uploads++\n\ts.stored = s.encoded != nil\n"}}, writing},
	{"I1", "the bucket says stored a moment before it is", "objectlog/file/put.go", []edit{
		{"func (b *Bucket) put(name string, body []byte, t trailer) error {\n", `func (b *Bucket) put(name string, body []byte, t trailer) error {
	if filepath.Ext(name) != ".seg" {
		return b.putNow(name, body, t)
	}
	kept := append([]byte{}, body...)
	time.AfterFunc(50*time.Millisecond, func() { b.putNow(name, kept, t) })
	return nil
}

func (b *Bucket) putNow(name string, body []byte, t trailer) error {
`}}, kills},
	{"S1", "a leader serves without a barrier", "metadata/shardlog/follow.go", []edit{
		{"\t\tc.phase = phaseBarrier\n", "\t\tc.beginLeading()\n"}}, shardlog},
	{"S2", "a replay does not stop at a later epoch", "metadata/shardlog/ring.go", []edit{
		{"if c.mine && s.entry.epoch > c.epoch { // deposed between claim and barrier\n\t\tc.depose()\n\t}", ""},
		{"\tif c.mine && c.tip.epoch > c.epoch { // the followed state or the snapshot is a later leader's\n\t\tc.depose()\n\t}\n", "", "metadata/shardlog/follow.go"}}, shardlog},
	{"S3", "a moved limit counts before the pointer is confirmed", "metadata/shardlog/checkpoint.go", []edit{
		{"\t\tl.cur = c.snap.at\n\t}).moves = c.snap\n", "\t\tl.cur = c.snap.at\n\t}).moves = c.snap\n\tc.lease.prev = c.put.next.prev\n"}}, shardlog},
	{"B1", "a put that the key refuses is taken for stored, whatever the key holds", "objectlog/s3/put.go", []edit{
		{"case found == want:", "case found.bytes >= 0:"}}, objects},
	{"B2", "a put that the key refuses is another's, though the key is free now", "objectlog/s3/put.go", []edit{
		{"refused because the key was taken, outcome unknown: %v\", b.location(key), errHead)", "refused because the key was taken: %w\", b.location(key), objectlog.ErrExists)"}}, objects},
	{"B3", "a put that has returned goes on reading its caller's bytes", "objectlog/s3/payload.go", []edit{
		{"\tp.data = nil\n", ""}}, objects},
	{"B4", "a slow put returns while its other attempt reads the caller's bytes", "objectlog/hedge/hedge.go", []edit{
		{"\tif timer.Stop() {\n\t\treturn first\n\t}\n\t<-done\n", "\tif timer.Stop() || first == nil {\n\t\treturn first\n\t}\n\t<-done\n"}}, hedging},
	{"T1", "every error of a conditional put is a refusal", "metadata/dynamo/write.go", []edit{
		{"\tif !errors.As(err, &failed) {\n\t\treturn metadata.PutResult{Err: err}\n\t}\n", "\tif !errors.As(err, &failed) {\n\t\treturn metadata.PutResult{Outcome: metadata.Refused}\n\t}\n"}}, items},
	{"T2", "a refusal that shows no item is taken for absence", "metadata/dynamo/write.go", []edit{
		{"\titem, ok, err := t.Get(ctx, key)\n", "\titem, ok, err := metadata.Item{}, false, error(nil)\n"}}, items},
	{"T3", "the SDK sends a put again by itself", "metadata/dynamo/dynamo.go", []edit{
		{"o.Retryer, o.RetryMaxAttempts = aws.NopRetryer{}, 0", "o.RetryMaxAttempts = 3"}}, items},
	{"T4", "a doubt about one batch of a new ring is none", "metadata/dynamo/createall.go", []edit{
		{"once.Do(func() { failed = err })\n\t\t\t\t\tcancel()\n", "once.Do(func() { _ = err })\n"}}, items},
	{"T5", "a put that was held back while the table throttles is a refusal", "metadata/throttle/throttle.go", []edit{
		{"return metadata.PutResult{Outcome: metadata.Unknown, Err: err}", "return metadata.PutResult{Outcome: metadata.Refused}"}}, "./metadata/throttle"},
	{"C1", "a restored table is taken for the cluster's", "agent/join.go", []edit{
		{"c.Table != \"\" && c.Table != j.cfg.TableID", "c.Table != \"\" && false"}}, joining},
	{"C2", "a bucket is taken for the cluster's, whosever mark it has", "agent/join.go", []edit{
		{"\tcase id != c.ID:\n\t\treturn fmt.Errorf(", "\tcase false:\n\t\treturn fmt.Errorf("},
		{"case own != c.Mark:", "case own != c.Mark && false:"}}, joining},
	{"C3", "a prefix may belong to two clusters", "agent/join.go", []edit{
		{"\tcase id != c.ID:\n\t\treturn \"\", fmt.Errorf(", "\tcase false:\n\t\treturn \"\", fmt.Errorf("}}, joining},
	{"C4", "a bucket that only a making that was cut off has marked is taken for the cluster's", "agent/join.go", []edit{
		{"case own != c.Mark:", "case own != c.Mark && false:"}}, joining},
	{"C5", "an agent goes on with a making that was cut off", "agent/join.go", []edit{
		{"\tif j.cfg.JoinOnly {\n\t\treturn c, false, fmt.Errorf(", "\tif j.cfg.JoinOnly && false {\n\t\treturn c, false, fmt.Errorf("}}, joining},
	// Consumer groups.
	{"G1", "an offset is committed without a look at the generation", "groups/state.go", []edit{
		{"g.Slots[i].Owner == member && g.Slots[i].Since <= generation && generation <= g.Generation", "g.Slots[i].Owner == member"},
	}, consuming},
	{"G2", "a partition is handed over before its owner lets go", "groups/member.go", []edit{
		{"if s.Owner == \"\" && target != \"\" {", "if s.Owner != target && target != \"\" {"},
	}, consuming},
	{"G3", "sessions are kept over a change of the leader", "groups/coordinator.go", []edit{
		{"\tif anew {\n\t\tclear(c.watched)\n\t}\n", "\t_ = anew\n"},
	}, consuming},
	{"G4", "what a member said of an earlier assignment releases", "groups/member.go", []edit{
		{"\tif c.Generation != g.Generation {", "\tif c.Generation > g.Generation {"},
	}, consuming},
	{"G5", "a static member's next life begins no generation", "groups/member.go", []edit{
		{"\tg.Version++\n\tg.Generation++\n\tfor i", "\tg.Version++\n\tfor i"},
	}, consuming},
	{"G6", "a leader that stood still has watched sessions meanwhile", "metadata/leaderclock.go", []edit{
		{"min(now-c.last, TickMax)", "now - c.last"},
	}, consuming},
	{"G12", "whoever was gone meanwhile goes on with what others had in between", "groups/coordinator.go", []edit{
		{"s.Since <= h.Generation", "true"},
	}, consuming},
	{"G7", "a leader without a lease answers heartbeats", "agent/coordinate.go", []edit{
		{" && s.Renewed && s.Fault == nil", " && s.Fault == nil"},
	}, driving},
	{"G8", "a commit whose outcome is unknown is said to have failed", "agent/committer.go", []edit{
		{"return nil, because(OutcomeUnknown, ctx.Err())", "return nil, because(Unavailable, ctx.Err())"},
	}, driving},
	{"G9", "commits that are held are not decided before the agent is gone", "agent/agent.go", []edit{
		{"\t\theld.Go(func() { c.drain(draining) })\n", "\t\t_ = c\n"},
	}, driving},
	{"G10", "a commit that its caller gave up lands behind a newer one", "agent/committer.go", []edit{
		{"\t\tif call.state == commitGone {\n\t\t\tc.held.Done()\n\t\t\tcontinue\n\t\t}\n", ""},
	}, driving},
	{"G11", "a deleted topic's positions stay", "agent/settle.go", []edit{
		{", groups.DropTopic{Topic: t.ID}.Command()", ", groups.DropTopic{}.Command()"},
	}, driving},
	// Queues and dead letters.
	{"Q1", "an acknowledgement counts without its lock", "queues/deliver.go", []edit{
		{"if p.Phase != Locked || p.Lock != item.Lock {", "if p.Phase != Locked {"}}, handing},
	{"Q2", "a record that is handed out again is as new", "queues/deliver.go", []edit{
		{"\t\t\tp.Deliveries++\n", "\t\t\tp.Deliveries = 1\n"}}, handing},
	{"Q3", "deliveries are lost with the leader", "queues/snapshot.go", []edit{
		{"wire.AppendInt(append(b, byte(p.Phase)), p.Deliveries)", "wire.AppendInt(append(b, byte(p.Phase)), min(p.Deliveries, 1))"}}, handing},
	{"Q4", "a lock that ends is no failure", "queues/deliver.go", []edit{
		{"p = p.failed(CauseExpired, \"\", at.Time)\n\t\tif p.Deliveries >= q.Policy.Deliveries {", "p = p.failed(CauseExpired, \"\", at.Time)\n\t\tif p.Deliveries > DeliveriesMax {"}}, handing},
	{"Q5", "a wait that ended otherwise ends the next one too", "queues/deliver.go", []edit{
		{"!over || p.Phase != Locked && p.Phase != Delayed", "over && len(c.Stamps) == 0 || p.Phase != Locked && p.Phase != Delayed"}}, handing},
	{"Q6", "a record is finished before its dead letter is written", "queues/move.go", []edit{
		{"p.Phase, p.Move = Moving, &move\n\t\t\treturn p, true", "p.Phase, p.Move = Moving, &move\n\t\t\treturn p, false"}}, handing},
	{"Q7", "another record's arrival finishes one", "queues/move.go", []edit{
		{"if p.Phase != Moving || p.Move.Producer != a.Producer || p.Move.Sequence != a.Sequence {", "if p.Phase != Moving || p.Move.Producer != a.Producer {"}}, handing},
	{"Q8a", "a displaced route is made anew without a producer of its own", "queues/move.go", []edit{
		{"if d.Producer == objectlog.NoProducer && (!known || old.route(d.To) < 0) {", "if d.Producer == objectlog.NoProducer && !known && old != nil {"},
		{"if d.Producer == objectlog.NoProducer || len(q.Routes) >= routesMax", "if len(q.Routes) >= routesMax"}}, handing},
	{"Q8b", "a route is displaced while records are on their way along it", "queues/move.go", []edit{
		{"p.Phase == Moving && p.Move.Producer == r.Producer })", "p.Phase == Moving && p.Move.Producer == r.Producer && p.From < 0 })"}}, handing},
	{"Q8c", "what was taken back leaves again by the same producer", "queues/move.go", []edit{
		{"\tq.Routes = slices.DeleteFunc(q.Routes, func(r Route) bool { return r.Producer == c.Producer })\n", ""}}, handing},
	{"Q9", "records are handed out beyond the window", "queues/deliver.go", []edit{
		{"objectlog.Offset(c.Window)-objectlog.Offset(q.InFlight())", "objectlog.Offset(c.Window)"}}, handing},
	{"Q10a", "a new leader ends locks by the time of the one before", "queues/clock.go", []edit{
		{"\tif anew {\n\t\tclear(c.watched)\n\t}\n", "\t_ = anew\n"}}, handing},
	{"Q10b", "an outage ends locks", "metadata/leaderclock.go", []edit{
		{"min(now-c.last, TickMax)", "now - c.last"},
		{"\t\tc.last = 0\n\t\treturn c.lived, false\n", "\t\treturn c.lived, false\n"}}, handing},
	{"Q11", "a delivery that reached nobody counts", "queues/deliver.go", []edit{
		{"\t\tp.Deliveries--\n", ""}}, handing},
	{"Q12", "what an ordered group gave up on is forgotten when its copy is written", "queues/move.go", []edit{
		{"return Piece{Phase: Buried}, q.Ordered", "return Piece{Phase: Buried}, false"}}, handing},
	{"Q13", "retention leaves a gap in the sequences of a route", "queues/piece.go", []edit{
		{"p.Phase == Locked || p.Phase == Moving })", "p.Phase == Locked })"}}, handing},
	{"Q14", "a queue is forgotten while its records are locked", "queues/state.go", []edit{
		{"q.Used < c.Before && q.idle()", "q.Used < c.Before"}}, handing},
	{"Q15", "a view changes with the state", "queues/state.go", []edit{
		{"\tif q.gen != s.gen {", "\tif q.gen > s.gen {"}}, handing},
	// Queues and dead letters, in histories.
	{"D1", "how often a record was delivered is lost with a snapshot", "queues/snapshot.go", []edit{
		{"wire.AppendInt(append(b, byte(p.Phase)), p.Deliveries)", "wire.AppendInt(append(b, byte(p.Phase)), min(p.Deliveries, 1))"}}, histories},
	{"D2", "a dead letter's source is finished before the letter is written", "queues/move.go", []edit{
		{"\t\t\tp.Phase, p.Move = Moving, &move\n\t\t\treturn p, true\n", "\t\t\tp.Phase, p.Move = Moving, &move\n\t\t\treturn p, q.Group == \"\"\n"}}, histories},
	{"D3", "a proposal is answered before its entry is appended", "metadata/shardlog/append.go", []edit{
		{"\t\tc.append.proposals = taken\n", `		for _, p := range taken {
			if len(p.commands) == 2 && p.commands[0].command.Kind == 97 {
				c.emit(Decided{ID: p.id, Receipt: Receipt{Seq: c.append.entry.seq, Results: []any{queues.Result{}, nil}}})
				continue
			}
			c.append.proposals = append(c.append.proposals, p)
		}
`},
		{"import (\n", "import (\n\t\"github.com/splashdam/splashdam/queues\"\n"}}, histories},
	{"D4", "a lock ends while its leader is not confirmed", "queues/clock.go", []edit{
		{"\tif anew {\n\t\tclear(c.watched)", "\tlived = now\n\tif anew {\n\t\tclear(c.watched)"}}, histories},
	{"D5", "a record that is on its way leaves once more", "queues/move.go", []edit{
		{"(p.Phase == Failed ||", "(p.Phase == Failed || p.Phase == Moving ||"}}, histories},
	{"D6", "a record is acknowledged under any lock", "queues/deliver.go", []edit{
		{"if p.Phase != Locked || p.Lock != item.Lock {", "if p.Phase != Locked {"}}, histories},
	{"D7", "two records have one place on a route", "queues/move.go", []edit{
		{"r.Next = (r.Next + 1) & math.MaxInt32", "r.Next = (r.Next + 1) & math.MinInt32"}}, histories},
	{"D8", "a leader goes on with the waits of an earlier time as leader", "queues/clock.go", []edit{
		{"\tif anew {\n\t\tclear(c.watched)", "\tif anew && len(c.watched) == 0 {\n\t\tclear(c.watched)"}}, histories},
	{"D9", "a wait that was begun anew ends with the one before", "queues/deliver.go", []edit{
		{"\t\tp.Wait, p.Stamp = item.Wait, stamp\n", "\t\tp.Wait = item.Wait\n"}}, histories},
	{"D10", "what was given up on is forgotten when its letter is written", "queues/move.go", []edit{
		{"return Piece{Phase: Buried}, q.Ordered", "return Piece{Phase: Buried}, false"}}, histories},
	{"D11", "a mover writes with another producer each time", "agent/movesend.go", []edit{
		{"l.record, l.piece.Move.Producer, l.piece.Move.Sequence)", "l.record, l.piece.Move.Producer+objectlog.ProducerID(time.Now().UnixNano()), l.piece.Move.Sequence)"},
		{"import (\n", "import (\n\t\"time\"\n"}}, moving},
}
