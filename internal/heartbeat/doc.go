// Package heartbeat answers: am I the only one, and until when?
//
// A Heartbeat claims a key of a Store, proves that nobody else can still be at work, renews the key
// in the background and tells at any moment how much of the lease is left. It stops no command and
// starts none: whoever runs commands watches the Lease and asks MayStart.
package heartbeat
