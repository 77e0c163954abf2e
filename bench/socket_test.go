package bench_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"gophd/internal/goroutine"
)

// BenchmarkSocketInUse measures the delay from the due time to the start of the command, with nobody at the
// socket and with 250 clients, in turn: 200 dead ones, of which half never finish a request and half do not
// read their stream, and 50 that read the stream of events. The ratio is the median of those of all rounds.
func BenchmarkSocketInUse(b *testing.B) {
	const interval, length, rounds = 20 * time.Millisecond, 5 * time.Second, 8
	k := build(b)
	var ratios []float64
	late := map[bool][]time.Duration{}
	for b.Loop() {
		for i := range rounds {
			round := map[bool]time.Duration{}
			for _, used := range []bool{i%2 == 0, i%2 != 0} {
				cmd := k.start(b, k.path("gophd"), "run", "--name", "bench", "--interval", interval.String(), "--",
					k.path("stamp"), k.path("stamps"))
				leave := func() {}
				if used {
					leave = k.clients(b)
				}
				k.during(b, length, cmd)
				leave()
				var delays []time.Duration
				for _, s := range k.stamps(b)[5:] { // the clients come meanwhile
					delays = append(delays, s.started-s.due)
				}
				round[used] = percentile(delays, 99)
				late[used] = append(late[used], delays...)
			}
			ratios = append(ratios, float64(round[true])/float64(round[false]))
		}
	}
	slices.Sort(ratios)
	b.ReportMetric(float64(percentile(late[false], 99).Microseconds()), "unused-p99-us")
	b.ReportMetric(float64(percentile(late[true], 99).Microseconds()), "used-p99-us")
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	b.ReportMetric(ratios[0], "least-ratio")
	b.ReportMetric(ratios[len(ratios)-1], "most-ratio")
	b.ReportMetric(0, "ns/op")
}

// clients connects 250 clients to the daemon. leave waits until they have gone.
func (k kit) clients(tb testing.TB) (leave func()) {
	tb.Helper()
	var readers goroutine.Group
	var all []net.Conn
	for i := range 250 {
		c, err := net.Dial("unix", k.path("bench.sock"))
		for ; err != nil && i == 0; c, err = net.Dial("unix", k.path("bench.sock")) { // it is just starting
			time.Sleep(5 * time.Millisecond)
		}
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, c)
		request := "GET /v1/events?follow=true HTTP/1.1\r\nHost: gophd\r\n"
		if i >= 100 {
			request += "\r\n"
		}
		if _, err := io.WriteString(c, request); err != nil {
			tb.Fatal(err)
		}
		if i >= 200 {
			readers.Go(func() { _, _ = io.Copy(io.Discard, c) }) // until the daemon ends
		}
	}
	return func() {
		for _, c := range all {
			_ = c.Close()
		}
		readers.Wait()
	}
}

// BenchmarkSocketMemory measures what the socket costs an idle daemon with one job: RSS more than without it,
// unused, and 65 s after the last of a few and of many requests, with the wake-ups in the 20 s after that. Each
// figure is the median of three daemons.
func BenchmarkSocketMemory(b *testing.B) {
	const made, free, watch = 75 * time.Second, 65 * time.Second, 20 * time.Second // after the start, the use, and that
	uses := []struct {
		name     string
		requests int
	}{{"off", 0}, {"unused", 0}, {"few", 5}, {"many", 150}}
	k := build(b)
	pids := map[string][]int{}
	for b.Loop() {
		for _, use := range uses {
			for i := range 3 {
				args := []string{k.path("gophd"), "run", "--name", fmt.Sprint(use.name, i), "--interval", "1h", "--", "true"}
				if use.name == "off" {
					args = slices.Insert(args, 2, "--no-socket")
				}
				cmd := k.start(b, args...)
				b.Cleanup(func() { k.during(b, time.Millisecond, cmd) })
				pids[use.name] = append(pids[use.name], cmd.Process.Pid)
			}
		}
		time.Sleep(made)
		for _, use := range uses {
			for i := range 3 {
				for n := range use.requests {
					k.request(b, fmt.Sprint(use.name, i), n)
				}
			}
		}
		time.Sleep(free)
		before := map[int]int{}
		for _, of := range pids {
			for _, pid := range of {
				before[pid] = wakes(b, pid)
			}
		}
		time.Sleep(watch)
		off := 0
		for _, use := range uses {
			var rss, woken []int
			for _, pid := range pids[use.name] {
				rss = append(rss, field(b, fmt.Sprintf("/proc/%d/status", pid), "VmRSS"))
				woken = append(woken, wakes(b, pid)-before[pid])
			}
			slices.Sort(rss)
			slices.Sort(woken)
			if off == 0 {
				off = rss[1]
			}
			b.ReportMetric(float64(rss[1]-off), use.name+"-KiB-more")
			b.ReportMetric(float64(woken[1]), use.name+"-wakes")
		}
	}
	b.ReportMetric(0, "ns/op")
}

// request sends the n-th request to a daemon and reads the answer: its status, its events, or no skip of a run.
func (k kit) request(tb testing.TB, name string, n int) {
	tb.Helper()
	c, err := net.Dial("unix", k.path(name+".sock"))
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	const head = " HTTP/1.1\r\nHost: gophd\r\nConnection: close\r\n"
	text := []string{"GET /v1/status" + head + "\r\n", "GET /v1/events" + head + "\r\n",
		"POST /v1/jobs/" + name + "/skip" + head + "Content-Length: 11\r\n\r\n{\"count\":0}"}[n%3]
	if _, err := io.WriteString(c, text); err != nil {
		tb.Fatal(err)
	}
	if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
		tb.Fatalf("%v: %s", err, answer)
	}
}

// BenchmarkStatus measures how long gophd status takes, in turn with gophd version, while the daemon writes
// as much output to its log as it can.
func BenchmarkStatus(b *testing.B) {
	const rounds = 100
	k := build(b)
	log := k.path("log")
	flood := k.start(b, "env", "GOPHD_LOG_ROTATE_SIZE=10M", "GOPHD_LOG_KEEP=1", k.path("gophd"), "run", "--name", "bench",
		"--service", "--log-file", log, "--", "yes", "a line of output that a command writes without an end")
	defer k.during(b, time.Millisecond, flood)
	once := func(args ...string) time.Duration {
		cmd := exec.Command(k.path("gophd"), args...)
		cmd.Env = append(os.Environ(), "GOPHD_STATE_DIR="+k.dir, "GOPHD_RUNTIME_DIR="+k.dir)
		started := time.Now()
		if err := cmd.Run(); err != nil {
			b.Fatalf("%s: %v", cmd, err)
		}
		return time.Since(started)
	}
	for {
		if info, err := os.Stat(log); err == nil && info.Size() > 1<<20 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	took := map[string][]time.Duration{}
	for b.Loop() {
		for range rounds {
			took["status"] = append(took["status"], once("status", "bench"))
			took["version"] = append(took["version"], once("version"))
		}
	}
	status, version := percentile(took["status"], 50), percentile(took["version"], 50)
	b.ReportMetric(float64(status.Microseconds()), "status-us")
	b.ReportMetric(float64(version.Microseconds()), "version-us")
	b.ReportMetric(float64(status)/float64(version), "ratio")
	b.ReportMetric(0, "ns/op")
}
