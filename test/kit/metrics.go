package kit

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// sampleLine is a line of the Prometheus text format: name, labels, value.
var sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)`)

// labelPair is one label of a sample.
var labelPair = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)

// Metric returns the sum of all samples with a name and with the given labels
// (name, value, name, value, …); 0 if there are none. Histograms are asked for
// as name_count, name_sum and name_bucket.
func (p *Provisioner) Metric(name string, labels ...string) float64 {
	p.env.t.Helper()
	value, err := sumSamples(p.Page("/metrics"), name, labels)
	if err != nil {
		p.env.t.Fatal(err)
	}
	return value
}

// WaitMetric waits until Metric returns want. What is counted is often counted
// just after the test can see that it happened.
func (p *Provisioner) WaitMetric(want float64, name string, labels ...string) {
	p.env.t.Helper()
	p.env.Eventually(fmt.Sprintf("%s %q is %v", name, labels, want), func() error {
		if got := p.Metric(name, labels...); got != want {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
}

func sumSamples(page, name string, labels []string) (float64, error) {
	var sum float64
	for line := range strings.Lines(page) {
		parts := sampleLine.FindStringSubmatch(line)
		if parts == nil || parts[1] != name || !hasLabels(parts[2], labels) {
			continue
		}
		value, err := strconv.ParseFloat(parts[3], 64)
		if err != nil {
			return 0, fmt.Errorf("reading metric %s: %w", name, err)
		}
		sum += value
	}
	return sum, nil
}

// hasLabels says whether the text between the braces holds all wanted labels.
func hasLabels(text string, wanted []string) bool {
	found := map[string]string{}
	for _, pair := range labelPair.FindAllStringSubmatch(text, -1) {
		found[pair[1]] = pair[2]
	}
	for i := 0; i+1 < len(wanted); i += 2 {
		if found[wanted[i]] != wanted[i+1] {
			return false
		}
	}
	return true
}
