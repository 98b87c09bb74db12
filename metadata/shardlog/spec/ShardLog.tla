------------------------------ MODULE ShardLog ------------------------------
(* ../DESIGN.md: a ring of R slots, a lease item, boots that compete to
   lead, follow each other, take snapshots. A put is a message: once sent it may land at any later
   time, more than once, after its sender died, or never. Hence "re-send the
   identical item" needs no action of its own; a pause is a boot that takes no
   step; Claim is always enabled, which covers every lease time-out and duel.
   Bugs is a set of names; each switches one rule off (README.md).          *)
EXTENDS Integers, Sequences, FiniteSets, TLC
CONSTANTS Boots, R, Reserved, MaxSeq, MaxEpoch, MaxCrash, MaxReads, Bugs
VARIABLES
  slot, lease,      \* the table: ring slots; lease item with snapshot pointers
  puts, lputs,      \* every put ever sent to a slot, to the lease item
  p,                \* each boot's memory
  rd, reads,        \* the current read under way; how many were begun
  crashes,
  log,              \* ghost: seq -> set of items that took effect there
  acked, failed,    \* ghost: items acknowledged; reported as definitely not written
  stale, broken     \* ghost: a read missed an earlier ack; chain or epoch rule seen broken
vars == <<slot, lease, puts, lputs, p, rd, reads, crashes, log, acked, failed, stale, broken>>

Bug(x) == x \in Bugs
NoHash == <<-1, 0, 0>>
Hash(it) == <<it.seq, it.epoch, it.v>>          \* v = 0: barrier; 1, 2: data
Tip(c) == IF c = <<>> THEN NoHash ELSE c[Len(c)]
At(n) == slot[n % R]
None == [none |-> TRUE]
Empty == [c |-> <<>>, ok |-> TRUE]              \* the snapshot of nothing
Last(s) == Len(s.c) - 1                         \* the seq a snapshot covers
Idle == [st |-> "idle", epoch |-> 0, c |-> <<>>, h |-> None, hw |-> None,
         wait |-> None, wait2 |-> None, probe |-> -1]

Init ==
  /\ slot = [i \in 0..R-1 |-> [seq |-> i - R, epoch |-> 0, v |-> 0, prev |-> NoHash]]
  /\ lease = [rev |-> 0, epoch |-> 0, holder |-> None, cur |-> Empty, prev |-> Empty]
  /\ puts = {} /\ lputs = {} /\ p = [b \in Boots |-> Idle]
  /\ rd = None /\ reads = 0 /\ crashes = 0
  /\ log = [n \in 0..MaxSeq |-> {}] /\ acked = {} /\ failed = {}
  /\ stale = FALSE /\ broken = FALSE

(* ------------------------------ the table ------------------------------ *)
Land(it) ==
  /\ At(it.seq).seq = it.seq - R
  /\ slot' = [slot EXCEPT ![it.seq % R] = it]
  /\ log' = [log EXCEPT ![it.seq] = @ \cup {it}]
  /\ UNCHANGED <<lease, puts, lputs, p, rd, reads, crashes, acked, failed, stale, broken>>

LandLease(m) ==
  /\ \/ lease.rev = m.cond /\ lease' = m.new
     \/ /\ Bug("PointerUnconditional") /\ m.kind = "ptr" /\ lease.rev # m.cond
        /\ lease' = [lease EXCEPT !.cur = m.new.cur, !.prev = m.new.prev] /\ lease' # lease
  /\ UNCHANGED <<slot, puts, lputs, p, rd, reads, crashes, log, acked, failed, stale, broken>>

(* --------------------------- becoming leader --------------------------- *)
Stop(b) == /\ p' = [p EXCEPT ![b] = [Idle EXCEPT !.c = p[b].c]]   \* and follows from there
           /\ rd' = IF rd # None /\ rd.b = b THEN None ELSE rd

Follow(b) ==                                    \* by the ring; a stream brings the same entries
  /\ p[b].st = "idle"
  /\ LET n == Len(p[b].c)  s == At(n) IN
     \/ /\ s.seq = n
        /\ p' = [p EXCEPT ![b].c = Append(@, Hash(s))]
        /\ broken' = (broken \/ s.prev # Tip(p[b].c))
     \/ /\ s.seq > n                             \* lapped: from the newest snapshot
        /\ p' = [p EXCEPT ![b].c = lease.cur.c] /\ UNCHANGED broken
  /\ UNCHANGED <<slot, lease, puts, lputs, rd, reads, crashes, log, acked, failed, stale>>

Claim(b) ==
  /\ p[b].st = "idle" /\ lease.epoch < MaxEpoch
  /\ LET new == [lease EXCEPT !.rev = @ + 1, !.epoch = @ + 1, !.holder = b] IN
     /\ lputs' = lputs \cup {[cond |-> lease.rev, new |-> new, kind |-> "claim"]}
     /\ p' = [p EXCEPT ![b] = [Idle EXCEPT !.st = "claim", !.hw = new, !.epoch = new.epoch, !.c = p[b].c]]
  /\ UNCHANGED <<slot, lease, puts, rd, reads, crashes, log, acked, failed, stale, broken>>

ClaimDecided(b) ==
  /\ p[b].st = "claim" /\ lease.rev >= p[b].hw.rev
  /\ p' = [p EXCEPT ![b] =
       IF lease = p[b].hw
       THEN [@ EXCEPT !.st = "replay", !.h = lease, !.hw = None]      \* from the followed state
       ELSE [Idle EXCEPT !.c = p[b].c]]
  /\ UNCHANGED <<slot, lease, puts, lputs, rd, reads, crashes, log, acked, failed, stale, broken>>

Replay(b) ==
  /\ p[b].st = "replay"
  /\ LET n == Len(p[b].c)  s == At(n) IN
     \/ /\ s.seq = n - R                        \* the end of the log
        /\ p' = [p EXCEPT ![b].st = IF Bug("NoBarrier") THEN "lead" ELSE "barrier"]
        /\ UNCHANGED <<broken, rd>>
     \/ /\ s.seq = n
        /\ IF s.epoch > p[b].epoch /\ ~Bug("ReplayIgnoresEpoch")
           THEN Stop(b) /\ UNCHANGED broken     \* deposed between claim and barrier
           ELSE /\ p' = [p EXCEPT ![b].c = Append(@, Hash(s))]
                /\ broken' = (broken \/ s.prev # Tip(p[b].c)) /\ UNCHANGED rd
     \/ /\ s.seq > n                             \* lapped: look at the lease item again
        /\ IF lease.epoch > p[b].epoch THEN Stop(b)
           ELSE p' = [p EXCEPT ![b].c = lease.cur.c] /\ UNCHANGED rd
        /\ UNCHANGED broken
  /\ UNCHANGED <<slot, lease, puts, lputs, reads, crashes, log, acked, failed, stale>>

(* ------------------------------ appending ------------------------------ *)
Base(b) == IF Bug("LimitFromNewest") THEN Last(p[b].h.cur) ELSE Last(p[b].h.prev)
DataLimit(b) == Base(b) + R - (IF Bug("NoReserve") THEN 0 ELSE Reserved)
CtlLimit(b) == Base(b) + R
Blocked(b) == Len(p[b].c) > (IF p[b].st = "lead" THEN DataLimit(b) ELSE CtlLimit(b))

Send(b) ==
  /\ p[b].st \in {"barrier", "lead"} /\ p[b].wait = None /\ ~Blocked(b)
  /\ LET n == Len(p[b].c)
         it == [seq |-> n, epoch |-> p[b].epoch, v |-> IF p[b].st = "lead" THEN 1 ELSE 0, prev |-> Tip(p[b].c)]
         it2 == IF it \in failed THEN [it EXCEPT !.v = 2] ELSE it IN   \* v = 2 only under a broken rule
     /\ n <= MaxSeq
     /\ puts' = puts \cup {it2} /\ p' = [p EXCEPT ![b].wait = it2]
  /\ UNCHANGED <<slot, lease, lputs, rd, reads, crashes, log, acked, failed, stale, broken>>

Send2(b) ==                                     \* broken rule: a second append in flight
  /\ Bug("TwoInFlight") /\ p[b].st = "lead" /\ p[b].wait # None /\ p[b].wait2 = None
  /\ LET n == p[b].wait.seq + 1
         it == [seq |-> n, epoch |-> p[b].epoch, v |-> 1, prev |-> Hash(p[b].wait)] IN
     /\ n <= MaxSeq /\ n <= DataLimit(b)
     /\ puts' = puts \cup {it} /\ p' = [p EXCEPT ![b].wait2 = it]
  /\ UNCHANGED <<slot, lease, lputs, rd, reads, crashes, log, acked, failed, stale, broken>>

Decided(b) ==                                   \* by the slot, never by time
  /\ p[b].wait # None /\ At(p[b].wait.seq).seq >= p[b].wait.seq
  /\ LET it == p[b].wait  s == At(it.seq)  lead == p[b].st = "lead" IN
     \/ /\ s = it /\ ~Bug("OwnItemIsDefeat")    \* committed
        /\ p' = [p EXCEPT ![b] = [@ EXCEPT !.c = Append(@, Hash(it)), !.st = "lead",
                                          !.wait = p[b].wait2, !.wait2 = None]]
        /\ acked' = IF lead THEN acked \cup {it} ELSE acked
        /\ UNCHANGED <<failed, broken, rd>>
     \/ /\ s = it /\ Bug("OwnItemIsDefeat")     \* broken rule: nonce not compared
        /\ Stop(b) /\ failed' = failed \cup {it} /\ UNCHANGED <<acked, broken>>
     \/ /\ s.seq = it.seq /\ s # it             \* another item has the slot
        /\ broken' = (broken \/ s.epoch = it.epoch \/ s.prev # Tip(p[b].c))
        /\ IF lead \/ s.epoch > p[b].epoch THEN Stop(b)
           ELSE /\ p' = [p EXCEPT ![b] = [@ EXCEPT !.c = Append(@, Hash(s)), !.wait = None]]
                /\ UNCHANGED rd
        /\ UNCHANGED <<acked, failed>>
     \/ /\ s.seq > it.seq                       \* lapped: the outcome stays unknown
        /\ Stop(b) /\ UNCHANGED <<acked, failed, broken>>
  /\ UNCHANGED <<slot, lease, puts, lputs, reads, crashes, log, stale>>

TimeoutIsNo(b) ==                               \* broken rules: a time-out, or an old slot, means "no"
  /\ p[b].st = "lead" /\ p[b].wait # None /\ p[b].wait.v = 1
  /\ \/ Bug("UnknownIsNo")
     \/ Bug("ReadBackIsNo") /\ At(p[b].wait.seq).seq < p[b].wait.seq
  /\ failed' = failed \cup {p[b].wait} /\ p' = [p EXCEPT ![b].wait = None]
  /\ UNCHANGED <<slot, lease, puts, lputs, rd, reads, crashes, log, acked, stale, broken>>

(* ------------------------------ snapshots ------------------------------ *)
Snap(b) ==
  /\ p[b].h # None /\ p[b].hw = None
  /\ \/ p[b].st = "lead"
     \/ p[b].st = "barrier" /\ p[b].wait = None /\ Blocked(b) /\ ~Bug("NoReplaySnapshot")
  /\ \E good \in (IF Bug("NoVerify") THEN {TRUE, FALSE} ELSE {TRUE}) :
     LET c == IF Bug("Speculative") /\ p[b].wait # None THEN Append(p[b].c, Hash(p[b].wait)) ELSE p[b].c
         h == p[b].h
         new == [h EXCEPT !.rev = @ + 1, !.cur = [c |-> c, ok |-> good], !.prev = h.cur] IN
     /\ \/ Len(c) > Len(h.cur.c)
        \/ /\ ~Bug("StrictPointer")             \* ring full: the same seq once more moves prev up
           /\ Blocked(b) /\ Len(c) = Len(h.cur.c) /\ Len(c) > Len(h.prev.c)
     /\ lputs' = lputs \cup {[cond |-> h.rev, new |-> new, kind |-> "ptr"]}
     /\ p' = [p EXCEPT ![b].hw = new, ![b].h = IF Bug("LimitAtSend") THEN new ELSE h]
  /\ UNCHANGED <<slot, lease, puts, rd, reads, crashes, log, acked, failed, stale, broken>>

SnapDecided(b) ==
  /\ p[b].st \in {"lead", "barrier"} /\ p[b].hw # None /\ lease.rev >= p[b].hw.rev
  /\ IF lease = p[b].hw THEN p' = [p EXCEPT ![b].h = lease, ![b].hw = None] /\ UNCHANGED rd
                        ELSE Stop(b)            \* refused: somebody else claimed
  /\ UNCHANGED <<slot, lease, puts, lputs, reads, crashes, log, acked, failed, stale, broken>>

(* ---------------------------- current reads ---------------------------- *)
MaxAcked == IF acked = {} THEN -1
            ELSE CHOOSE n \in {a.seq : a \in acked} : \A a \in acked : a.seq <= n
ReadStart(b) ==
  /\ p[b].st = "lead" /\ rd = None /\ reads < MaxReads
  /\ rd' = [b |-> b, need |-> MaxAcked] /\ reads' = reads + 1
  /\ UNCHANGED <<slot, lease, puts, lputs, p, crashes, log, acked, failed, stale, broken>>
EarlyProbe(b) ==                                \* broken rule: a probe sent before the request came
  /\ Bug("EarlyProbe") /\ p[b].st = "lead" /\ At(Len(p[b].c)).seq = Len(p[b].c) - R
  /\ p[b].probe # Len(p[b].c) /\ p' = [p EXCEPT ![b].probe = Len(p[b].c)]
  /\ UNCHANGED <<slot, lease, puts, lputs, rd, reads, crashes, log, acked, failed, stale, broken>>
Answer(b) ==
  /\ rd # None /\ rd.b = b /\ p[b].st = "lead"
  /\ LET n == Len(p[b].c) IN
     /\ At(n).seq = n - R \/ Bug("NoProbe") \/ (Bug("EarlyProbe") /\ p[b].probe = n)
     /\ stale' = (stale \/ rd.need > n - 1)
  /\ rd' = None
  /\ UNCHANGED <<slot, lease, puts, lputs, p, reads, crashes, log, acked, failed, broken>>

Crash(b) ==
  /\ p[b].st # "idle" /\ crashes < MaxCrash /\ crashes' = crashes + 1
  /\ p' = [p EXCEPT ![b] = [Idle EXCEPT !.c = IF lease.cur.ok THEN lease.cur.c ELSE lease.prev.c]]   \* and a new boot loads a snapshot
  /\ rd' = IF rd # None /\ rd.b = b THEN None ELSE rd
  /\ UNCHANGED <<slot, lease, puts, lputs, reads, log, acked, failed, stale, broken>>

(* A run may end only when the model's log is full, or when nobody is active and no epoch is
   left. Any other end is reported by TLC as a deadlock: an active boot that can never go on. *)
End == /\ log[MaxSeq] # {} \/ \A b \in Boots : p[b].st = "idle"
       /\ UNCHANGED vars

Next == \/ \E it \in puts : Land(it)
        \/ \E m \in lputs : LandLease(m)
        \/ \E b \in Boots : \/ Follow(b) \/ Claim(b) \/ ClaimDecided(b) \/ Replay(b) \/ Send(b) \/ Send2(b)
                            \/ Decided(b) \/ TimeoutIsNo(b) \/ Snap(b) \/ SnapDecided(b)
                            \/ ReadStart(b) \/ EarlyProbe(b) \/ Answer(b) \/ Crash(b)
        \/ End
Spec == Init /\ [][Next]_vars
Symmetry == Permutations(Boots)

(* ------------------------------ properties ----------------------------- *)
It(n) == CHOOSE it \in log[n] : TRUE
Prefix(c) == \A i \in 1..Len(c) : log[i-1] # {} /\ c[i] = Hash(It(i-1))
RECURSIVE Recover(_)
Recover(c) == LET s == At(Len(c)) IN
              IF s.seq = Len(c) /\ s.prev = Tip(c) THEN Recover(Append(c, Hash(s))) ELSE c
Has(c, it) == Len(c) > it.seq /\ c[it.seq + 1] = Hash(it)

Agreement == \A n \in 0..MaxSeq : Cardinality(log[n]) <= 1
Chain == \A n \in 1..MaxSeq : log[n] # {} => log[n-1] # {} /\ It(n).prev = Hash(It(n-1))
EpochMonotone == \A n \in 1..MaxSeq : log[n] # {} /\ log[n-1] # {} => It(n).epoch >= It(n-1).epoch
StateCommitted == \A b \in Boots : Prefix(p[b].c)
SnapshotCommitted == \A s \in {lease.cur, lease.prev} : s.ok /\ Prefix(s.c)
Durable == \A it \in acked : Has(Recover(lease.cur.c), it) /\ Has(Recover(lease.prev.c), it)
NoFalseFailure == \A it \in failed : it \notin log[it.seq]
LeaderComplete == \A b \in Boots :
   (p[b].st = "lead" /\ \A o \in Boots \ {b} : p[o].st = "lead" => p[o].epoch < p[b].epoch)
     => \A it \in acked : it.epoch < p[b].epoch => Has(p[b].c, it)
ReadsCurrent == ~stale
NotBroken == ~broken
=============================================================================
