// Package api answers: how does another process see a running gophd, and steer it?
//
// A Server listens on a Unix socket and answers HTTP/1.1 with JSON. It knows no job and no process:
// its Daemon gives it a status.Snapshot and carries out requests. A Client asks, and Find finds the
// sockets of all daemons that a user may see. shapes.go has what goes over the socket.
//
// While nobody uses the socket, a Server is one goroutine that is parked in the poller, and no more:
// the HTTP server is made for the first connection, and dropped a minute after the last one has ended.
//
// An answer waits for no log, store or run: it is made from a Snapshot.
package api
