// Package heartbeat answers: am I the only one, and until when?
//
// A Heartbeat claims a key of a Store, proves that nobody else can still be at work, renews the key
// in the background and tells at any moment how much of the lease is left. It stops no command and
// starts none: whoever runs commands watches the Lease and asks MayStart. It keeps no store either:
// the packages below it do.
//
// # Two keys
//
// L, the heartbeat's key, has the [Record] of its holder and a ttl; anybody may poll it. S, which is L
// with ".state" behind, has no ttl: it has the fence, and says whether the last holder gave the
// heartbeat back in order. A value that gophd did not write is never overwritten.
//
// # The rules
//
// The instance is a random id, never a PID. Every write of a key is Add, or Swap from a value that was
// read and is ours. An operation without an answer is unknown: never taken for lost nor for done, but
// read back and repeated.
//
// The deadline is local, on the boot clock: the sending of the read before the last acknowledged
// write, plus the validity T - M - 1 % of T - 50 ms. M is what the server's clock may take, 1 % is the
// difference in clock rate that is borne. The command must be dead by the deadline, and is stopped
// StopGrace before it. After the deadline, the full procedure begins anew, even if L still shows our id.
//
// The full procedure: L must be absent (and stay so for one renewal, for a holder to put back what the
// server forgot), ours, or of a dead owner on this host. Claim it. Hold it without a break for as long
// as anybody's lease can last: nobody else can renew meanwhile, so whatever the server forgot or
// expired too early, all others are out. The wait is short after a clean release, and nil when S says
// that nobody passed the proof since we, or the dead owner, did. Write the next fence into S. Confirm
// L. So the order of fences is the order of holders.
//
// Not promised: that a command dies which cannot be killed, or that a machine stands still only for as
// long as its clock says. The fence closes that hole if the resource refuses lower ones.
//
// # States
//
// ample, short, late and passed say how much is left: enough to start a run; too little to start one;
// no more than the grace; nothing. missed: the key is not, or no longer, ours, but nobody else's was
// heard either, or the store gave no answer. won is also what Options.Continue makes of a silent store.
// A cell with the row's own name does nothing. TestTable walks every cell.
//
//	|          | heard    | missed   | claimed  | won      | ample    | short    | late     | passed   | released |
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
