package figures_test

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/bench/figures"
)

func TestPercentiles(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, c := range []struct {
		name   string
		values []float64
		p      float64
		want   float64
	}{
		{"of nothing", nil, 50, 0},
		{"of one", []float64{7}, 99, 7},
		{"the least of one hundred", hundred, 0, 1},
		{"the middle of one hundred", hundred, 50, 50},
		{"p99 of one hundred", hundred, 99, 99},
		{"a little more than p99", hundred, 99.5, 100},
		{"the greatest of one hundred", hundred, 100, 100},
		{"p99 of few is the greatest", []float64{3, 1, 2}, 99, 3},
		{"the middle of an even number is the lower one", []float64{4, 1, 3, 2}, 50, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := slices.Clone(c.values)
			if got := figures.Percentile(c.values, c.p); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if !slices.Equal(c.values, before) {
				t.Errorf("the values were sorted in place: %v", c.values)
			}
		})
	}
}

func TestMedians(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{5}, 5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := figures.Median(c.values); got != c.want {
			t.Errorf("the median of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

func TestTheTableIsMarkdownInColumns(t *testing.T) {
	table := figures.Table{{"", "seconds", "409"}}
	table = table.With("500 clones – ours", "12.5", "0")
	table = table.With("short", "1")
	want := `|                   | seconds | 409 |
|:------------------|--------:|----:|
| 500 clones – ours |    12.5 |   0 |
| short             |       1 |     |
`
	if got := table.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// line returns one of an audit log.
func line(stage, verb, user, object, code string) string {
	return `{"stage":"` + stage + `","verb":"` + verb + `","user":{"username":"` + user + `"},"objectRef":{` + object + `},"responseStatus":{"code":` + code + `}}` + "\n"
}

func TestTheAuditLogIsReadFromWhereItWasReadLast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	write := func(text string) {
		t.Helper()
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	const claims, pvs = `"resource":"persistentvolumeclaims"`, `"resource":"persistentvolumes"`
	write(line("ResponseComplete", "create", "us", pvs, "201"))
	audit, err := figures.NewAudit(path)
	if err != nil {
		t.Fatal(err)
	}
	next := func(want ...figures.Request) {
		t.Helper()
		got, err := audit.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	next()
	write(line("ResponseComplete", "patch", "us", claims, "200") +
		line("ResponseStarted", "watch", "us", claims, "200") +
		line("ResponseComplete", "watch", "us", claims, "200") +
		line("ResponseComplete", "list", "us", claims, "200") +
		line("ResponseComplete", "update", "us", `"resource":"leases"`, "200") +
		line("ResponseComplete", "update", "them", claims+`,"subresource":"status"`, "409"))
	next(figures.Request{User: "us", What: "patch persistentvolumeclaims", Code: 200},
		figures.Request{User: "them", What: "update persistentvolumeclaims/status", Code: 409})
	next()
	// A line that is being written is read when it is whole.
	whole := line("ResponseComplete", "create", "us", pvs, "201")
	write(whole[:20])
	next()
	write(whole[20:])
	next(figures.Request{User: "us", What: "create persistentvolumes", Code: 201})
	write("no JSON\n")
	if got, err := audit.Next(); err == nil {
		t.Errorf("what is no JSON is read as %v", got)
	}
	if _, err := figures.NewAudit(path + ".none"); err == nil {
		t.Error("a log that is not there is read")
	}
}

func TestInsertReplacesWhatIsBetweenTheMarks(t *testing.T) {
	const page = "# Page\n\n<!-- a:begin -->\nold\n<!-- a:end -->\n\nrest\n"
	want := "# Page\n\n<!-- a:begin -->\n\nnew\n\n<!-- a:end -->\n\nrest\n"
	for _, text := range []string{"new", "\nnew\n\n"} {
		got, err := figures.Insert(page, "a", text)
		if err != nil || got != want {
			t.Errorf("got %q (%v), want %q", got, err, want)
		}
		if again, err := figures.Insert(got, "a", text); err != nil || again != want {
			t.Errorf("a second time: got %q (%v), want %q", again, err, want)
		}
	}
	for _, wrong := range []string{"", "<!-- a:begin -->\n", "<!-- a:end -->\n<!-- a:begin -->\n"} {
		if got, err := figures.Insert(wrong, "a", "new"); err == nil {
			t.Errorf("%q becomes %q", wrong, got)
		}
	}
}

// measured returns a measurement in which everything takes as long.
func measured(who string, run, claims int, seconds float64) figures.Measurement {
	all := []float64{0, seconds}
	phase := figures.Phase{PVs: all, Claims: all, CPU: seconds, Requests: map[string]int{"create persistentvolumes": claims}}
	return figures.Measurement{Case: "clones", Claims: claims, Sources: 1, Who: who, Run: run, Waits: all, Create: phase, Delete: phase}
}

// row returns the cells of the row that begins so.
func row(t *testing.T, text, begins string) []string {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "| "+begins) {
			var cells []string
			for cell := range strings.SplitSeq(line, "|") {
				cells = append(cells, strings.TrimSpace(cell))
			}
			return cells[1 : len(cells)-1]
		}
	}
	t.Fatalf("no row begins with %q in\n%s", begins, text)
	return nil
}

func TestTheReportTellsMediansRatiosAndGoals(t *testing.T) {
	warned := measured(figures.Ours, 1, 2000, 10)
	warned.Create.Warnings, warned.Delete.Conflicts = []string{"a", "b"}, 1
	report := figures.Report{
		Date: time.Date(2026, 2, 3, 0, 0, 0, 0, time.UTC), Machine: figures.Machine{Cores: 2, Memory: 24 << 30, Model: "abacus"},
		Measurements: []figures.Measurement{
			measured(figures.Ours, 1, 500, 2), measured(figures.Floor, 1, 500, 2),
			measured(figures.Floor, 2, 500, 1), measured(figures.Ours, 2, 500, 1.1),
			measured(figures.Ours, 3, 500, 3), measured(figures.Floor, 3, 500, 1),
			warned, measured(figures.Floor, 1, 2000, 10),
		},
	}
	text := report.Markdown()
	for _, words := range []string{"2026-02-03", "2 cores, 24 GiB", "abacus", "3 runs"} {
		if !strings.Contains(text, words) {
			t.Errorf("the report does not say %q:\n%s", words, text)
		}
	}
	for _, c := range []struct {
		begins string
		column int
		want   string
	}{
		{"500 clones, ours", 1, "2.0 (1.1–3.0)"},
		{"500 clones, floor", 1, "1.0 (1.0–2.0)"},
		{"500 clones, floor", 5, "1.00"},
		{"2,000 clones, ours", 8, "2"},
		// The ratios of the runs are 1, 1.1 and 3: not that of the medians, which is 2.
		{"500 clones: bound, times the floor", 2, "1.10"},
		{"500 clones: bound, times the floor", 3, "yes"},
		{"2,000 clones: 409s and Warning events", 2, "3"},
		{"2,000 clones: 409s and Warning events", 3, "no"},
		// 10 seconds for 2,000 are a quarter more than 2 for 500.
		{"cost of a clone, 500 to 2,000: seconds until bound (floor: 2.50)", 2, "1.25"},
		{"cost of a clone, 500 to 2,000: seconds until bound (floor: 2.50)", 3, "no"},
		{"cost of a clone, 500 to 2,000: requests", 3, "yes"},
		{"create persistentvolumes", 1, "1.00 + 1.00"},
	} {
		if got := row(t, text, c.begins)[c.column]; got != c.want {
			t.Errorf("%s: cell %d is %q, want %q", c.begins, c.column, got, c.want)
		}
	}
}

func TestAReportWithoutTheFloorIsTold(t *testing.T) {
	text := figures.Report{Measurements: []figures.Measurement{measured(figures.Ours, 1, 10, 2), measured(figures.Ours, 1, 40, 2)}}.Markdown()
	if got := row(t, text, "cost of a clone, 10 to 40: CPU")[2]; got != "0.25" {
		t.Errorf("the cost of a clone grows by %s, want 0.25", got)
	}
	if strings.Contains(text, "floor:") || strings.Contains(text, "times the floor") || strings.Contains(text, "NaN") {
		t.Errorf("a ratio to nothing is told:\n%s", text)
	}
}

func TestAReportIsReadAsItWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	machine, err := figures.ThisMachine()
	if err != nil {
		t.Fatal(err)
	}
	if machine.Cores < 1 || machine.Memory < 1<<20 {
		t.Errorf("this machine has %+v", machine)
	}
	want := figures.Report{Date: time.Now().UTC().Round(0), Machine: machine, Measurements: []figures.Measurement{measured(figures.Ours, 1, 10, math.Pi)}}
	if err := want.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := figures.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := figures.Read(path + ".none"); err == nil {
		t.Error("a report that is not there is read")
	}
}
