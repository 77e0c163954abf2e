// Package heartbeat answers: is this the only instance, and until when?
//
// A Heartbeat claims a key of a Store, proves that no other instance can still be at work, renews
// the key in the background, and returns at any moment how much of the lease is left. It starts and
// stops no command: its caller does that, watches the Lease and asks MayStart. It contains no
// store: the packages below it do.
//
// # Two keys
//
// L, the key of the lease, has the [Record] of its holder and a ttl. Anybody may poll it. S, which
// is L + ".state", has no ttl. It has the fencing token, and says whether the last holder released
// the lease cleanly. A value that gophd did not write is never overwritten.
//
// # The rules
//
// An instance is identified by a random id, never by a PID. Every write of a key is an Add, or a
// Swap of a value that was read and is ours. The result of an operation without an answer is
// unknown: it counts neither as failed nor as done. The key is read back and the operation is
// repeated.
//
// The deadline is local, on the boot clock. It is t + T - M - 1 % of T - 50 ms. t is the time at
// which a read was sent: the one before the last acknowledged write. T is the ttl. M is the time by
// which the server's clock may shorten a ttl. 1 % is the tolerated difference in clock rate. The
// command must be dead by the deadline, and is stopped StopGrace before it. After the deadline the
// full procedure starts again, even if L still shows our id.
//
// The full procedure has five steps:
//
//  1. Check. L must be ours, or of a dead owner on this host, or absent. An absent L must stay so
//     for one renewal, so that a holder can restore what the server forgot.
//  2. Claim L.
//  3. Prove. Hold L without a break for as long as any lease can last. Nobody else can renew
//     meanwhile. So at its end every other lease has expired, even if the server forgot a key, or
//     expired it too early. The wait is short after a clean release. No wait is needed if S shows
//     that the last instance that completed the proof is this one, or the dead owner.
//  4. Write the next fencing token into S.
//  5. Confirm L. So the order of fencing tokens is the order of holders.
//
// # What is kept for the next holder
//
// S also keeps a value of the caller, Options.Keep: every takeover and every later write of S preserves it, and
// the next holder has it as Lease.Found. Only the holder writes it, while its last answer about L was that
// L is ours, and only over a value of S that it wrote itself. So no write of an earlier holder that
// comes late replaces that of a later one. Lease.Kept says which version is acknowledged. A holder that
// waits for that before it acts has these promises, as long as the server does not forget S:
//
//   - It dies before the write: the next holder finds the value before it.
//   - It dies after the write, or has no answer: the next holder finds the new value, whether this one has
//     acted or not. Or it finds the value before it, and then this one has not acted.
//   - It acts, and dies then: the next holder finds the new value.
//
// A server that forgets S keeps nothing. The holder writes it again, within a minute, or at once if it has
// forgotten L too.
//
// Two things are not promised. A command that cannot be killed may be alive after the deadline. And
// the boot clock may not count the time for which a virtual machine is paused: then the deadline
// comes too late. The fencing token closes both gaps if the resource rejects lower ones.
//
// # States
//
// ample, short, late and expired say how much of the lease is left: enough to start a run; too
// little to start one; no more than the grace; nothing. missed stands for two things: the full
// procedure has to start again, because the key has changed or the store gave no answer; or step 1
// waits because L is absent. acquired is also the event when Options.Continue lets runs start
// although the store gives no answer. A cell with the row's own name does nothing.
// TestTransitionTable checks every cell.
//
//	|          | taken    | missed   | claimed  | acquired | ample    | short    | late     | expired  | released |
//	| seeking  | standby  | seeking  | proving  | held     | seeking  | seeking  | seeking  | seeking  | released |
//	| standby  | standby  | seeking  | proving  | held     | standby  | standby  | standby  | standby  | released |
//	| proving  | standby  | seeking  | proving  | held     | proving  | proving  | proving  | proving  | released |
//	| held     | lost     | held     | held     | held     | held     | doubtful | ending   | out      | released |
//	| doubtful | lost     | doubtful | doubtful | held     | held     | doubtful | ending   | out      | released |
//	| ending   | lost     | ending   | ending   | held     | held     | ending   | ending   | out      | released |
//	| out      | lost     | out      | proving  | held     | out      | out      | out      | out      | released |
//	| lost     | standby  | seeking  | proving  | held     | lost     | lost     | lost     | lost     | released |
//	| released | released | released | released | released | released | released | released | released | released |
package heartbeat
