// Package logging answers: where do log lines and the command's lines go?
//
// A Log takes two kinds of lines and writes them, in the order in which it took them, to a file, to
// an echo (gophd's stderr), to both or to none. It does not choose what is said, hides no secrets,
// makes no folders and does not yet rotate by size, age or count: a file name may hold a time, and
// then the file changes when its name does.
//
// # Formats
//
// The format simple keeps the command's bytes as they are; only the newline ends a line:
//
//	2026-11-22 06:51:02.123 [4711] run started number=7
//	2026-11-22 06:51:02.123 [4711] warn: run is late number=7 late=1.2s
//	2026-11-22 06:51:02.130 [4720] out: a line of the command's stdout
//	2026-11-22 06:51:02.131 [4720] err+ bytes of its stderr, with no newline after them
//
// gophd's own lines have gophd's PID, the level when it is warn or worse, the message and the fields
// as key=value; control characters in them are escaped, so no error text or name can forge a line.
// The command's lines have the command's PID and its stream, and cannot be taken for gophd's own.
//
// The format json is one object a line: {"time","pid","job","level",...,"message"} for gophd's own,
// {"time","pid","job","stream","line"} for the command's. JSON cannot hold bytes that are not UTF-8:
// in "line" each of them becomes U+FFFD, and the exact bytes stand beside it, in base64, as "bytes".
// gophd's own lines must not use the names time, pid and job for fields of their own.
//
// The format console is simple with zerolog's own rendering of level, message and fields.
//
// # Long and unfinished lines
//
// A line of more than 64 KiB is written in pieces, cut at 64 KiB or up to 3 bytes earlier so that no
// UTF-8 sequence is torn. A piece that had no newline after it is marked, with "+" in place of ":" or
// with "partial":true, and so are the last bytes of a stream that did not end in a newline. One rule
// gives the exact bytes back: for each record of one PID and stream take its text, and a newline
// unless it is marked.
//
// # When the sink is slow, stuck, full or gone
//
// One goroutine for each sink swaps a buffer and writes it at once; there is no flush timer. gophd's
// own lines never wait for a sink: when 1 MiB is pending they are dropped. The command's lines wait
// when 256 KiB are pending, so the command feels a slow sink as it would feel a slow pipe, and memory
// stays flat. A write that fails (disk full, no reader, closed pipe) drops what it could not write, of
// both kinds, and the next line tries again; a FIFO that nobody reads is opened when somebody does.
// All that was dropped is counted, and the first write that works again is preceded by a line that
// says how many lines were lost and why. A line that was cut by such an error stays cut, on a line of
// its own.
//
// # States
//
//	           own line          command's line        Reopen     Close
//	running    taken, or         taken, or waits       opens      -> draining
//	           dropped if full   for room
//	draining   dropped           dropped               ErrClosed  ErrClosed
//	closed     dropped           dropped               ErrClosed  ErrClosed
//
// In draining the goroutines write what was taken; closed follows when they have, or when a stuck
// sink has used up its 3 seconds.
package logging
