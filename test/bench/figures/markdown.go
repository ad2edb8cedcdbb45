package figures

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// scene is one case as it was run, once or several times.
type scene struct {
	name   string
	claims int
	// who has the measurements of Ours and of Floor, by run.
	who map[string][]Measurement
}

// thousands writes a number as 2,000.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// scenes returns the cases in the order in which they were run first.
func (r Report) scenes() []scene {
	var all []scene
	for _, m := range r.Measurements {
		i := slices.IndexFunc(all, func(s scene) bool { return s.name == m.Name() })
		if i < 0 {
			i, all = len(all), append(all, scene{name: m.Name(), claims: m.Claims, who: map[string][]Measurement{}})
		}
		all[i].who[m.Who] = append(all[i].who[m.Who], m)
	}
	return all
}

// figure is one number of a measurement.
type figure func(Measurement) float64

// values returns a figure of every run.
func (s scene) values(who string, of figure) []float64 {
	var all []float64
	for _, m := range s.who[who] {
		all = append(all, of(m))
	}
	return all
}

// cell returns a figure's median, with the least and the greatest if there are
// several runs that differ.
func (s scene) cell(who, format string, of figure) string { return spread(format, s.values(who, of)) }

func spread(format string, values []float64) string {
	if len(values) == 0 {
		return ""
	}
	middle := fmt.Sprintf(format, Median(values))
	least, greatest := fmt.Sprintf(format, slices.Min(values)), fmt.Sprintf(format, slices.Max(values))
	if least == greatest {
		return middle
	}
	return fmt.Sprintf("%s (%s–%s)", middle, least, greatest)
}

// ratios returns ours divided by the floor, run by run. A run without floor has
// none.
func (s scene) ratios(of figure) []float64 {
	var all []float64
	for _, ours := range s.who[Ours] {
		for _, floor := range s.who[Floor] {
			if floor.Run == ours.Run && of(floor) > 0 {
				all = append(all, of(ours)/of(floor))
			}
		}
	}
	return all
}

func pvsThere(m Measurement) float64   { return Last(m.Create.PVs) }
func allBound(m Measurement) float64   { return Last(m.Create.Claims) }
func pvsGone(m Measurement) float64    { return Last(m.Delete.PVs) }
func claimsGone(m Measurement) float64 { return Last(m.Delete.Claims) }

func sum(parts map[string]float64) float64 {
	total := 0.0
	for _, part := range parts {
		total += part
	}
	return total
}

// each returns a number for each claim.
func each(of figure) figure {
	return func(m Measurement) float64 { return of(m) / float64(m.Claims) }
}

// Markdown returns the report as tables.
func (r Report) Markdown() string {
	var text strings.Builder
	fmt.Fprintf(&text, "Measured on %s with %s (%s), Kubernetes %s, provisioner %s; the driver takes %.0f ms; %s.\n",
		r.Date.Format("2006-01-02"), r.Machine, r.Machine.Model, r.Kubernetes, r.Program, r.Latency*1000, r.runs())
	for _, part := range []struct {
		title string
		table Table
	}{
		{"Claims created at once:", r.creations()},
		{"The same claims deleted at once:", r.deletions()},
		{"API requests of our provisioner for each claim, in creation + in deletion:", r.requests()},
		{"Goals:", r.goals()},
	} {
		fmt.Fprintf(&text, "\n%s\n\n%s", part.title, part.table)
	}
	return text.String()
}

func (r Report) runs() string {
	runs := 0
	for _, m := range r.Measurements {
		runs = max(runs, m.Run)
	}
	if runs == 1 {
		return "one run"
	}
	return fmt.Sprintf("%d runs, medians (least–greatest)", runs)
}

func (r Report) creations() Table {
	t := Table{{"", "PVs exist (s)", "bound (s)", "p50 (s)", "p99 (s)", "requests each", "409", "409 of others", "Warnings", "CPU (s)", "peak (MiB)", "CPU of the control plane (s)", "strangers"}}
	for _, s := range r.scenes() {
		for _, who := range []string{Ours, Floor} {
			t = t.With(
				s.name+", "+who,
				s.cell(who, "%.1f", pvsThere),
				s.cell(who, "%.1f", allBound),
				s.cell(who, "%.1f", func(m Measurement) float64 { return Percentile(m.Waits, 50) }),
				s.cell(who, "%.1f", func(m Measurement) float64 { return Percentile(m.Waits, 99) }),
				s.cell(who, "%.2f", each(func(m Measurement) float64 { return float64(m.Create.Total()) })),
				s.cell(who, "%.0f", func(m Measurement) float64 { return float64(m.Create.Conflicts) }),
				s.cell(who, "%.0f", func(m Measurement) float64 { return float64(m.Create.OtherConflicts) }),
				s.cell(who, "%.0f", func(m Measurement) float64 { return float64(len(m.Create.Warnings)) }),
				s.cell(who, "%.2f", func(m Measurement) float64 { return m.Create.CPU }),
				s.cell(who, "%.0f", func(m Measurement) float64 { return float64(m.Create.Peak) / (1 << 20) }),
				s.cell(who, "%.1f", func(m Measurement) float64 { return sum(m.Create.ControlPlane) }),
				s.cell(who, "%.0f %%", func(m Measurement) float64 { return m.Create.Strangers * 100 }),
			)
		}
	}
	return t
}

func (r Report) deletions() Table {
	t := Table{{"", "claims gone (s)", "PVs gone (s)", "DeleteVolume calls", "requests each", "409", "409 of others", "Warnings", "CPU (s)", "CPU of the control plane (s)", "strangers"}}
	for _, s := range r.scenes() {
		for _, who := range []string{Ours, Floor} {
			t = t.With(
				s.name+", "+who,
				s.cell(who, "%.1f", claimsGone),
				s.cell(who, "%.1f", pvsGone),
				s.cell(who, "%.0f", func(m Measurement) float64 { return float64(m.Delete.Calls["DeleteVolume"]) }),
				s.cell(who, "%.2f", each(func(m Measurement) float64 { return float64(m.Delete.Total()) })),
				s.cell(who, "%.0f", func(m Measurement) float64 { return float64(m.Delete.Conflicts) }),
				s.cell(who, "%.0f", func(m Measurement) float64 { return float64(m.Delete.OtherConflicts) }),
				s.cell(who, "%.0f", func(m Measurement) float64 { return float64(len(m.Delete.Warnings)) }),
				s.cell(who, "%.2f", func(m Measurement) float64 { return m.Delete.CPU }),
				s.cell(who, "%.1f", func(m Measurement) float64 { return sum(m.Delete.ControlPlane) }),
				s.cell(who, "%.0f %%", func(m Measurement) float64 { return m.Delete.Strangers * 100 }),
			)
		}
	}
	return t
}

// requests has a row for each kind of request of ours.
func (r Report) requests() Table {
	head := []string{""}
	kinds := map[string]bool{}
	for _, s := range r.scenes() {
		head = append(head, s.name)
		for _, m := range s.who[Ours] {
			for _, phase := range []Phase{m.Create, m.Delete} {
				for what := range phase.Requests {
					kinds[what] = true
				}
			}
		}
	}
	t := Table{head}
	for _, what := range slices.Sorted(maps.Keys(kinds)) {
		row := []string{what}
		for _, s := range r.scenes() {
			row = append(row,
				s.cell(Ours, "%.2f", each(func(m Measurement) float64 { return float64(m.Create.Requests[what]) }))+" + "+
					s.cell(Ours, "%.2f", each(func(m Measurement) float64 { return float64(m.Delete.Requests[what]) })))
		}
		t = t.With(row...)
	}
	return t
}

// goals has what was promised beside what was found. Nothing fails because of it:
// a clock is no judge.
func (r Report) goals() Table {
	const (
		mostTimesFloor = 1.3
		mostRequests   = 5
		mostGrowth     = 1.1
	)
	t := Table{{"", "goal", "found", "met"}}
	add := func(what string, goal, found float64, format string) {
		t = t.With(what, "at most "+fmt.Sprintf(format, goal), fmt.Sprintf(format, found), map[bool]string{true: "yes", false: "no"}[found <= goal])
	}
	scenes := r.scenes()
	for _, s := range scenes {
		for _, moment := range []struct {
			name string
			of   figure
		}{{"PVs exist", pvsThere}, {"bound", allBound}, {"PVs gone", pvsGone}} {
			if ratios := s.ratios(moment.of); len(ratios) > 0 {
				add(fmt.Sprintf("%s: %s, times the floor", s.name, moment.name), mostTimesFloor, Median(ratios), "%.2f")
			}
		}
		count := func(of figure) float64 { return slices.Max(s.values(Ours, of)) }
		if len(s.who[Ours]) == 0 {
			continue
		}
		add(fmt.Sprintf("%s: 409s and Warning events", s.name), 0, count(func(m Measurement) float64 {
			return float64(m.Create.Conflicts + m.Delete.Conflicts + len(m.Create.Warnings) + len(m.Delete.Warnings))
		}), "%.0f")
		add(fmt.Sprintf("%s: requests for each until bound", s.name), mostRequests, count(func(m Measurement) float64 {
			return math.Round(100*float64(m.Create.Total())/float64(m.Claims)) / 100
		}), "%.2f")
	}
	if few, many := extremes(scenes); few.claims < many.claims {
		for _, cost := range []struct {
			name string
			of   figure
		}{
			{"seconds until PVs exist", pvsThere},
			{"seconds until bound", allBound},
			{"CPU", func(m Measurement) float64 { return m.Create.CPU }},
			{"requests", func(m Measurement) float64 { return float64(m.Create.Total()) }},
		} {
			what := fmt.Sprintf("cost of a clone, %s to %s: %s", thousands(few.claims), thousands(many.claims), cost.name)
			if len(few.who[Floor]) > 0 && len(many.who[Floor]) > 0 {
				what += fmt.Sprintf(" (floor: %.2f)", growth(few, many, Floor, cost.of))
			}
			add(what, mostGrowth, growth(few, many, Ours, cost.of), "%.2f")
		}
	}
	return t
}

// extremes returns the cases with the least and the most clones of one source.
func extremes(scenes []scene) (few, many scene) {
	for _, s := range scenes {
		ours := s.who[Ours]
		if len(ours) == 0 || ours[0].Sources != 1 {
			continue
		}
		if few.claims == 0 || s.claims < few.claims {
			few = s
		}
		if s.claims > many.claims {
			many = s
		}
	}
	return few, many
}

// growth returns by what factor a figure for each claim grows from few to many.
func growth(few, many scene, who string, of figure) float64 {
	return Median(many.values(who, each(of))) / Median(few.values(who, each(of)))
}
