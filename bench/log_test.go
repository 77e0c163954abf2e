package bench_test

import (
	"bufio"
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

var (
	logLines  = flag.Int("loglines", 1_600_000, "how many lines of 80 bytes go through each log")
	logRounds = flag.Int("logrounds", 7, "how often each log is measured")
	logDir    = flag.String("logdir", "/dev/shm", "parent of the directory of the logs; a tmpfs excludes the disk")
	yesFor    = flag.Duration("yes", 5*time.Second, "how long yes writes")
)

// line returns the k-th line of programs/lines.c, from 1.
func line(buf []byte, k int) []byte {
	return fmt.Appendf(buf[:0], "%010d GET /a/path/of/some/length?with=a&query=string 200 51234 0.004512 ok\n", k)
}

const lineSize = 80

// costs are the measurements of one contestant, in seconds: the time from the first instruction of
// the producer until the last byte was in the file, and the CPU time of the log without the
// producer.
type costs struct{ wall, cpu []float64 }

// contestant is one way from the producer's stdout to a file.
type contestant struct {
	name string
	// run starts the log and the producer, and waits until everything is written. It returns the
	// time of that, and the CPU time of all processes that it started.
	run func(tb testing.TB, t turn) (end time.Time, cpu time.Duration)
	// before and after are the maximum bytes that the log adds before and after each line of the
	// producer.
	before, after int
}

// turn is one run of one contestant, in its own directory.
type turn struct {
	dir      string
	producer []string
	size     int64 // bytes that it writes
}

func (t turn) path(name string) string { return filepath.Join(t.dir, name) }

// contestants returns the contestants in the order of their runs. Rotation is off or at its largest
// size, and so are buffers.
func contestants(k kit) []contestant {
	return []contestant{
		{"cat", feed(false, "cat"), 0, 0},
		{"s6-log", feed(true, "s6-log", "n1000", "s268435455", "t", "."), 32, 0},
		{"svlogd", feed(true, "svlogd", "-b", "65536", "-tt", "."), 32, 0},
		{"multilog", feed(true, "multilog", "t", "s16777215", "n1000", "."), 32, 0},
		{"supervisord", supervisord, 0, 0},
		{"gophd simple", gophd(k, "--log-format", "simple", "--log-file", "current"), 48, 0},
		{"gophd json", gophd(k, "--log-format", "json", "--log-file", "current"), 128, 2},
		{"gophd --output", gophd(k, "--output", "current"), 0, 0},
		{"> file", feed(false), 0, 0},
	}
}

// feed returns a run in which the producer writes to a pipe that the log reads as its stdin, or to
// the file itself without a log. A log without ownFile writes to stdout.
func feed(ownFile bool, argv ...string) func(testing.TB, turn) (time.Time, time.Duration) {
	return func(tb testing.TB, t turn) (time.Time, time.Duration) {
		tb.Helper()
		// For svlogd: no rotation. The others do not read it.
		if err := os.WriteFile(t.path("config"), []byte("s0\nn0\n"), 0o600); err != nil {
			tb.Fatal(err)
		}
		producer := exec.Command(t.producer[0], t.producer[1:]...)
		all := []*exec.Cmd{producer}
		var files []*os.File
		file := func() *os.File {
			f, err := os.Create(t.path("current"))
			if err != nil {
				tb.Fatal(err)
			}
			files = append(files, f)
			return f
		}
		if len(argv) == 0 {
			producer.Stdout = file()
		} else {
			r, w, err := os.Pipe()
			if err != nil {
				tb.Fatal(err)
			}
			files = append(files, r, w)
			log := exec.Command(argv[0], argv[1:]...)
			log.Dir, log.Stdin, producer.Stdout = t.dir, r, w
			if !ownFile {
				log.Stdout = file()
			}
			all = append(all, log)
		}
		for _, cmd := range all {
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				tb.Fatal(err)
			}
		}
		for _, f := range files {
			_ = f.Close()
		}
		var cpu time.Duration
		for _, cmd := range all {
			if err := cmd.Wait(); err != nil {
				tb.Fatalf("%s: %v", cmd, err)
			}
			cpu += used(cmd)
		}
		return time.Now(), cpu
	}
}

// used returns the CPU time of an exited process and of all children that it waited for.
func used(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

func gophd(k kit, args ...string) func(testing.TB, turn) (time.Time, time.Duration) {
	return func(tb testing.TB, t turn) (time.Time, time.Duration) {
		tb.Helper()
		argv := append([]string{k.path("gophd"), "run", "--name", "bench", "--once", "--interval", "0",
			"--heartbeat", "none:"}, args...)
		argv[len(argv)-1] = t.path(argv[len(argv)-1])
		cmd := k.start(tb, append(append(argv, "--"), t.producer...)...)
		k.during(tb, 0, cmd)
		return time.Now(), used(cmd)
	}
}

// supervisord starts the producer itself and does not exit with it. So the size of the file shows
// when everything is written. Its CPU time includes the start of its interpreter, about 0.2 s.
func supervisord(tb testing.TB, t turn) (end time.Time, cpu time.Duration) {
	tb.Helper()
	config := fmt.Sprintf(`[supervisord]
nodaemon=true
silent=true
logfile=/dev/null
logfile_maxbytes=0
pidfile=%s
[program:lines]
command=%s
stdout_logfile=%s
stdout_logfile_maxbytes=0
autorestart=false
startsecs=0
`, t.path("pid"), strings.Join(t.producer, " "), t.path("current"))
	if err := os.WriteFile(t.path("config"), []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command("supervisord", "-c", t.path("config"))
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		cpu = used(cmd)
	}()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if info, err := os.Stat(t.path("current")); err == nil && info.Size() == t.size {
			return time.Now(), 0
		}
	}
	tb.Error("supervisord has not written all in two minutes")
	return time.Now(), 0
}

// measure runs a contestant once and checks that every line is complete and in order.
func (c contestant) measure(tb testing.TB, k kit, chunk int, into *costs) {
	tb.Helper()
	dir := logDirectory(tb)
	defer os.RemoveAll(dir)
	producer := []string{k.path("lines"), strconv.Itoa(*logLines), strconv.Itoa(chunk), filepath.Join(dir, "report")}
	t := turn{dir, producer, int64(*logLines) * lineSize}
	end, cpu := c.run(tb, t)
	report, err := os.ReadFile(t.path("report"))
	if err != nil {
		tb.Fatal(err)
	}
	var started, producerCPU int64
	if _, err := fmt.Sscan(string(report), &started, &producerCPU); err != nil {
		tb.Fatalf("bad report %q: %v", report, err)
	}
	if err := c.complete(dir, *logLines); err != nil {
		tb.Fatalf("%s: %v", c.name, err)
	}
	into.wall = append(into.wall, end.Sub(time.Unix(0, started)).Seconds())
	into.cpu = append(into.cpu, (cpu - time.Duration(producerCPU)).Seconds())
}

// logDirectory creates a directory on the file system on which the logs are measured.
func logDirectory(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp(*logDir, "gophd-bench")
	if err != nil {
		tb.Fatalf("%v: choose another directory with -logdir", err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// complete reads the log, rotated files first, and returns an error if a line is missing or
// duplicated.
func (c contestant) complete(dir string, lines int) error {
	files, err := filepath.Glob(filepath.Join(dir, "@*"))
	if err != nil {
		return err
	}
	next, others := 1, 0
	var want []byte
	for _, name := range append(files, filepath.Join(dir, "current")) {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		r := bufio.NewReaderSize(f, 1<<20)
		for {
			got, err := r.ReadSlice('\n')
			if err == io.EOF && len(got) == 0 {
				break
			}
			if err != nil {
				return fmt.Errorf("%s ends in %q: %w", name, got, err)
			}
			want = line(want, next)
			at := bytes.Index(got, want[:lineSize-1])
			switch after := len(got) - at - lineSize; {
			case at >= 0 && at <= c.before && after <= c.after:
				next++
			case others < 8 && c.before > 0:
				others++ // gophd's own lines
			default:
				return fmt.Errorf("%q in place of line %d", got, next)
			}
		}
	}
	if next-1 != lines {
		return fmt.Errorf("%d of %d lines in the log", next-1, lines)
	}
	return nil
}

func TestCompleteFindsMissingLines(t *testing.T) {
	one, two, three := string(line(nil, 1)), string(line(nil, 2)), string(line(nil, 3))
	const stamp = "2026-11-22 06:51:02.130 [4720] out: "
	plain, stamped := contestant{}, contestant{before: 48}
	for name, c := range map[string]struct {
		contestant
		rotated, current string
		whole            bool
	}{
		"whole":                   {plain, "", one + two + three, true},
		"rotated":                 {plain, one + two, three, true},
		"stamped, with own lines": {stamped, "", "start\n" + stamp + one + stamp + two + stamp + three + "exit\n", true},
		"first lost":              {plain, "", two + three, false},
		"one lost":                {stamped, "", stamp + one + stamp + three, false},
		"last lost":               {stamped, "", stamp + one + stamp + two, false},
		"last without its end":    {plain, "", one + two + three[:40], false},
		"duplicated":              {plain, "", one + two + two + three, false},
		"out of order":            {stamped, "", stamp + two + stamp + one + stamp + three, false},
		"torn": {stamped, "",
			stamp + one[:40] + "\n" + stamp + one[40:] + stamp + two + stamp + three, false},
		"two in one": {stamped, "", stamp + one[:lineSize-1] + two + stamp + three, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{"@1": c.rotated, "current": c.current} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.complete(dir, 3); (err == nil) != c.whole {
				t.Errorf("complete returns %v", err)
			}
		})
	}
}

// BenchmarkLog measures how many bytes of the command's lines reach a file per second, through
// gophd and through other logs, in turn, so that all run under the same conditions.
func BenchmarkLog(b *testing.B) {
	k := build(b)
	k.compile(b, "lines")
	for _, peer := range []string{"s6-log", "svlogd", "multilog", "supervisord"} {
		if _, err := exec.LookPath(peer); err != nil {
			b.Fatalf("%v: ./bench/peers installs it", err)
		}
	}
	for _, chunk := range []int{64 << 10, 4 << 10} {
		b.Run(fmt.Sprintf("%dKiB", chunk>>10), func(b *testing.B) {
			all := contestants(k)
			took := map[string]*costs{}
			for _, c := range all {
				took[c.name] = &costs{}
			}
			for b.Loop() {
				for range *logRounds {
					for _, c := range all {
						c.measure(b, k, chunk, took[c.name])
					}
				}
			}
			report(b, all, took)
		})
	}
}

// compile builds the static program NAME from programs/NAME.c.
func (k kit) compile(tb testing.TB, name string) {
	tb.Helper()
	cc := exec.Command("cc", "-O2", "-static", "-o", k.path(name), "programs/"+name+".c")
	if out, err := cc.CombinedOutput(); err != nil {
		tb.Fatalf("cc %s: %v\n%s", name, err, out)
	}
}

// report prints the table of one case and reports the ratios that have a goal.
func report(b *testing.B, all []contestant, took map[string]*costs) {
	b.Helper()
	megabytes := float64(*logLines) * lineSize / 1e6
	text := &strings.Builder{}
	table := tabwriter.NewWriter(text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "\nmedian of %d\tMB/s\tslowest\tfastest\tof cat\tCPU ms per 100 MB\t\n", len(took["cat"].wall))
	for _, c := range all {
		t := took[c.name]
		fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%.0f\t%.2f\t%.0f\t\n", c.name,
			megabytes/median(t.wall), megabytes/slices.Max(t.wall),
			megabytes/slices.Min(t.wall), ratio(took["cat"], t), median(t.cpu)*1e3/megabytes*100)
	}
	_ = table.Flush()
	fastest := func(peers ...string) string {
		return slices.MinFunc(peers, func(x, y string) int {
			return cmp.Compare(median(took[x].wall), median(took[y].wall))
		})
	}
	stamping := fastest("s6-log", "svlogd", "multilog")
	peer := fastest(stamping, "supervisord")
	fmt.Fprintf(text, "the fastest peer that stamps is %s, of all peers %s", stamping, peer)
	fmt.Println(text) // b.Log would cut it
	for _, r := range []struct{ name, ours, theirs string }{
		{"simple/stamping-peer", "gophd simple", stamping},
		{"simple/any-peer", "gophd simple", peer},
		{"simple/cat", "gophd simple", "cat"},
		{"json/stamping-peer", "gophd json", stamping},
		{"json/any-peer", "gophd json", peer},
		{"output/cat", "gophd --output", "cat"},
		{"output/direct", "gophd --output", "> file"},
	} {
		b.ReportMetric(ratio(took[r.theirs], took[r.ours]), r.name)
	}
	b.ReportMetric(0, "ns/op")
}

// ratio returns the median over the rounds of how many times as fast ours is.
func ratio(theirs, ours *costs) float64 {
	var all []float64
	for i := range ours.wall {
		all = append(all, theirs.wall[i]/ours.wall[i])
	}
	return median(all)
}

func median(all []float64) float64 {
	return slices.Sorted(slices.Values(all))[len(all)/2]
}

// BenchmarkLogMemory measures the peak memory of gophd when its command writes one line of 100 MB,
// and when it writes short lines continuously. It fails if that is much more than with a command
// that writes nothing.
func BenchmarkLogMemory(b *testing.B) {
	// KiB, independent of the length of the line and of the run: buffers, and a heap of 4 MB that
	// Go collects.
	const limit = 8 << 10
	k := build(b)
	file := filepath.Join(logDirectory(b), "current")
	for b.Loop() {
		quiet := k.peak(b, file, "true")
		for _, c := range []struct{ what, file, command string }{
			{"line", file, `head -c 100000000 /dev/zero | tr '\0' x; echo`},
			// yes writes enough in a minute to fill the memory of the machine.
			{"yes", os.DevNull, fmt.Sprintf("timeout %f yes", yesFor.Seconds())},
		} {
			grown := k.peak(b, c.file, c.command) - quiet
			b.ReportMetric(float64(grown), c.what+"-more-KiB")
			if grown > limit {
				b.Errorf("%s: gophd grew by %d KiB (limit %d)", c.what, grown, limit)
			}
		}
		b.ReportMetric(float64(quiet), "quiet-KiB")
	}
	if info, err := os.Stat(file); err != nil || info.Size() < 1e8 {
		b.Errorf("the long line is not in the log: %v", err)
	}
	b.ReportMetric(0, "ns/op")
}

// peak returns the peak memory of gophd in KiB. The command reads it from /proc before it exits.
func (k kit) peak(tb testing.TB, file, command string) int {
	tb.Helper()
	k.gophd(tb, 0, "--once", "--interval", "0", "--heartbeat", "none:", "--log-file", file, "--shell", "--",
		command+"; cat /proc/$PPID/status > "+k.path("status"))
	return field(tb, k.path("status"), "VmHWM")
}
