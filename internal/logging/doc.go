// Package logging answers: where do log lines and the command's lines go?
//
// A Log takes two kinds of lines and writes them, in the order in which it took them, to a file or to a
// service of the host (the journal, syslog), to an echo (gophd's stderr), to both or to none. It does not choose what is said, hides no secrets and
// makes no folders.
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
// The services have forms of their own, a datagram for each record. The journal gets MESSAGE, PRIORITY,
// SYSLOG_IDENTIFIER (the tag), SYSLOG_PID, GOPHD_JOB and, for the command's lines, GOPHD_STREAM and
// GOPHD_PARTIAL=1 if marked; syslog gets what its daemons take on the local socket (RFC 3164 without a
// host), as "TAG[PID]: out: text". The command's lines are info on both streams, since many report their
// progress on stderr. One of gophd's own lines for syslog ends in "..." after 8000 bytes.
//
// # Long and unfinished lines
//
// A line of more than 64 KiB (8000 bytes with syslog, whose daemons cut at 8 KiB) is written in pieces, cut
// there or up to 3 bytes earlier so that no UTF-8 sequence is torn. A piece that had no newline after it
// is marked, with "+" in place of ":" or with "partial":true, and so are the last bytes of a stream that
// did not end in a newline; those that Rest took begin the first line of the next Stream instead. One rule
// gives the exact bytes back: for each record of one PID and stream take its text, and a newline
// unless it is marked.
//
// # Files and archives
//
// A file name may hold a time, and then the file changes when its name does. By size or age, a file is
// set aside: renamed to NAME.20261122T065102.123456Z, the time in UTC at which that was done, moved on by
// microseconds until the name is free. So `zcat -f NAME.* NAME` is the whole log in order. That
// happens between two records only; a file is never larger than asked for, except for a single
// record that is. The age counts from the first line, whose time is read from the file, and a file that
// cannot be read is as old as its last change; it is looked at when a line comes, so an idle log wakes
// nobody up. What is not a regular file (a FIFO, /dev/stdout) stays where it is.
//
// Archives are the files with such a stamp, and those whose names the pattern could have made at another
// time. They are counted, compressed and removed, oldest first, and nothing else is: no folder, no
// symlink, no other name. Compression goes on in the background at the lowest priority. At every moment
// the archive or its compressed form is whole and on the disk; one that was interrupted, by Close or
// by kill -9, is begun anew by the next Log that compresses.
//
// A file that others moved away or deleted is noticed by the first line after a second, and made anew;
// Reopen does that at once. Two gophds may write to one file: each looks whether the file is still its own
// before it sets it aside, and goes to the new one within a second if not; an archive that one has open is
// not compressed by the other (flock). Their sizes are then kept within a second's lines.
// The gap: if a clock that was set back brings back a pattern's name just while that file is compressed,
// the lines of up to a second can be lost.
//
// The sync policies: never leaves it to the system when lines reach the disk; second sees to it at most
// a second after they were written; always, before the next are written. The latter two do so for each
// file that is finished, too.
//
// # When the sink is slow, stuck, full or gone
//
// One goroutine for each sink swaps a buffer and writes it at once; there is no flush timer. gophd's
// own lines never wait for a sink: when 1 MiB is pending they are dropped. The command's lines wait
// when 256 KiB are pending, so the command feels a slow sink as it would feel a slow pipe, and memory
// stays flat. A sink whose write has not got on for 10 seconds is not slow but stuck: then the command's lines that find
// no room are dropped, so that a log which nobody reads stops no work. A write that fails (disk full, no reader, closed pipe) drops what it could not write, of
// both kinds, and the next line tries again; a FIFO that nobody reads is opened when somebody does, and
// a service that is absent, at the start or later, is looked for once a second.
// With OnFull block it is kept and tried each second, or after Reopen: the command waits, for a stuck file
// as well, and gophd's own lines are dropped when 1 MiB of them is pending. An echo never blocks for longer than the 10 seconds.
// At the end, from Hurry or Close on, a sink that does not get on is given up, by the command too: a regular file after
// 30 seconds, all else after 10, and earlier the more often gophd was told to end.
//
// Before an exec no write may be under way that could hang with its disk, for the exec would hang with it. Pause begins
// no more of them, and Idle says when that holds; then Leave and Left end the Log without a write. What it had taken is
// passed on to the next one, which writes it first.
//
// All that was dropped is counted and reported (Trouble), and the first write that works again is preceded by a line that
// says how many lines were lost and why. What an error has left
// of a line is removed from a regular file; elsewhere, or where another has written after it, it stays, on a line of its own.
//
// # States
//
//	           own line          command's line        Reopen     Close        Left
//	running    taken, or         taken, or waits       opens      -> draining  -> closed
//	           dropped if full   for room
//	draining   dropped           dropped               ErrClosed  ErrClosed    ErrClosed
//	closed     dropped           dropped               ErrClosed  ErrClosed    ErrClosed
//
// In draining the goroutines write what was taken; closed follows when each has, or was given up.
package logging
