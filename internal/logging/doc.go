// Package logging answers: where do log lines and the command's lines go?
//
// A Log takes gophd's own lines and the command's lines, and writes them in the order in which it
// took them. They go to a file or a service of the host (the journal, syslog), to an echo (gophd's
// stderr), to both or to none. The package does not choose what is logged, hides no secrets and
// creates no directories.
//
// # Formats
//
// The format simple keeps the command's bytes as they are:
//
//	2026-11-22 06:51:02.123 [4711] adopted run 7, pid 4720
//	2026-11-22 06:51:02.123 [4711] warn: run 7 failed after 1.2s: exit code 3
//	2026-11-22 06:51:02.130 [4720] out: a line of the command's stdout
//	2026-11-22 06:51:02.131 [4720] err+ bytes of its stderr, with no newline after them
//
// gophd's own lines have gophd's PID, the level if it is warn or higher, the message, and the
// fields of a line that is no event as key=value. Control characters are escaped, so no error text
// or name can forge a line. The command's lines have the command's PID and the stream, which
// gophd's own lines do not have.
//
// The format json is one object per line: {"time","pid","job","level",...,"message"} for gophd's
// own lines, {"time","pid","job","stream","line"} for the command's. JSON cannot hold bytes that
// are not UTF-8: in "line" each of them becomes U+FFFD, and "bytes" has the exact bytes in base64.
// gophd's own lines must not use the field names time, pid and job.
//
// The format console is simple, with level, message and fields as zerolog renders them.
//
// The services have their own formats, one datagram per record. The journal gets MESSAGE, PRIORITY,
// SYSLOG_IDENTIFIER (the tag), SYSLOG_PID and GOPHD_JOB, and for the command's lines GOPHD_STREAM
// and GOPHD_PARTIAL=1 if the record is partial, or GOPHD_CRLF=1. syslog gets the format that its daemons accept on
// the local socket (RFC 3164 without a host): "TAG[PID]: out: text". The command's lines have the
// severity info on both streams, because many commands report their progress on stderr. One of
// gophd's own lines for syslog is cut after 8000 bytes and ends in "...".
//
// # Several jobs
//
// A Job is the Log of one of several jobs. In a log of all jobs its lines begin with its name; in json
// and in the journal they have it in a field. A job in Options.Jobs has a file of its own, in which the
// text has no name. Its sink is asleep until the first line, and again after a minute without one: it
// has no goroutine, no descriptor and no buffer then.
//
// # Long and unfinished lines
//
// A newline ends a line, and so does a carriage return that no newline follows: see package line. A
// record has the carriage return in its text, and not the newline. Of a line end of two bytes, a
// json record and one of the journal have a field instead: "crlf":true.
//
// A record without a newline after it in the command's output is partial: it is marked with "+"
// instead of ":", or with "partial":true. Partial are
//
//   - a line that ends in a carriage return only;
//   - what there is of an unfinished line a second after its first byte, and again a second after
//     the first byte of the rest. A timer of the Stream writes it: at most one firing in a second,
//     and none while no line is unfinished. An unfinished UTF-8 sequence waits for another second;
//   - a piece of a line of more than 64 KiB. With syslog the limit is 8000 bytes, because its
//     daemons cut at 8 KiB. The cut is at the limit or up to 3 bytes before it, so that no UTF-8
//     sequence is split;
//   - the last bytes of a stream that does not end in a line end. If Rest has returned those bytes,
//     they are not written: they start the first record of the next Stream.
//
// One rule restores the exact bytes: for each record of one PID and stream take its text, and add
// the line end unless the record is partial: a newline, with a carriage return before it if the
// record has that field.
//
// # Files and archives
//
// A file name may contain a time. When the time changes the name, the file with the new name is
// opened. A file that is too large or too old is renamed to NAME.20261122T065102.123456Z, the UTC
// time of the rename. If the name exists, the time is increased by microseconds until the name is
// free. So `zcat -f NAME.* NAME` prints the whole log in order. Rotation happens only between two
// records. A file is never larger than its limit, except for a single record that is larger.
//
// The age counts from the first line: its time is read from the file. The age of a file that
// cannot be read counts from its modification time. The age is checked when a line arrives, so an
// idle log causes no wakeups. Only regular files are rotated: a FIFO or a descriptor such as
// /dev/stdout stays where it is, also if it leads to a regular file.
//
// Archives are the files with such a timestamp, and the files whose names the pattern could have
// produced at another time. They are counted, compressed, and removed, oldest first. Nothing else
// is: no directory, no symlink, no other name. Compression runs in the background at the lowest
// priority. At every moment either the archive or its compressed form is complete and on the disk.
// If Close or kill -9 interrupts a compression, the next Log that compresses starts it again.
//
// If another process moves or deletes the file, gophd notices that at the first write that comes a
// second or more after the last check, and creates the file again. Reopen does that at once. Two
// gophds may write to one file: each checks that the file is still its own before it renames it,
// and switches to the new one within a second if it is not. An archive that one gophd has open is
// not compressed by the other (flock). A file that two gophds write can exceed its limit by the
// lines of one second.
//
// Known gap: if the clock is set back and a pattern's name returns while that file is being
// compressed, the lines of up to a second can be lost.
//
// The sync policies: never leaves it to the system when lines reach the disk; second syncs at most
// a second after a write; always syncs before the next lines are written. second and always also
// sync each file when it is finished.
//
// # When the sink is slow, stalled, full or gone
//
// Each sink has one goroutine, which swaps a buffer and writes it at once. There is no flush timer.
//
//   - gophd's own lines never wait for a sink: they are dropped while 1 MiB is pending.
//   - The command's lines wait while 256 KiB are pending. A slow sink slows the command down
//     as a slow pipe does, and memory is bounded.
//   - In a sink of several jobs, each job may have 8 KiB pending also when 256 KiB are, up to 768
//     KiB in all. So a job that floods it neither delays another nor loses its lines.
//   - A sink is stalled if its write makes no progress for 10s. Then the command's lines that do
//     not fit are dropped, so that a log that nobody reads does not block the command.
//   - A write that fails (disk full, no reader, closed pipe) drops the lines that were not written,
//     of both kinds. The next line is attempted again. A FIFO is opened when it has a reader. A
//     service that is absent, at the start or later, is looked for once a second.
//   - With OnFull block a failed write is kept and retried each second or at Reopen. The command
//     waits, for a stalled file too. gophd's own lines are dropped while 1 MiB is pending.
//   - An echo never blocks for longer than the 10 seconds.
//   - After SetStopRequests or Close, the command and Close do not wait indefinitely for a sink
//     that makes no progress: 30 seconds for a regular file, 10 for any other sink, less after more
//     stop requests. Then its lines are lost.
//
// Before an exec no write may be active that can hang with its disk, because the exec would hang
// with it. After Pause no such write starts, and Idle reports when none is active. Then Leave and
// Left close the Log without a write. The lines that it had taken are passed to the next Log, which
// writes them first.
//
// All dropped lines are counted and reported (Trouble). Before the first write that works again,
// the log gets a line with the number of lost lines and the reason. An error can leave a part of a
// line. In a regular file that part is removed. In other sinks, or if another process has written
// after it, it stays, on a line of its own.
//
// # States
//
//	           own line          command's line        Reopen     Close        Left
//	running    taken, or         taken, or waits       opens      -> draining  -> closed
//	           dropped if full   for space
//	draining   dropped           dropped               ErrClosed  ErrClosed    ErrClosed
//	closed     dropped           dropped               ErrClosed  ErrClosed    ErrClosed
//
// In draining the goroutines write the lines that were taken. The state is closed when each
// goroutine has written them or was given up.
//
// A sink with the file of one job has a state of its own while the Log is running:
//
//	          line            Reopen    a minute without a line
//	awake     taken           opens     -> asleep
//	asleep    -> awake        nothing   nothing
package logging
