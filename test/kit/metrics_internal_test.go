package kit

import "testing"

const testPage = `# HELP calls How often.
# TYPE calls counter
calls{method="a",code="OK"} 3
calls{method="b",code="OK"} 4
calls{code="no \"way\"",method="b"} 1.5e+00
calls_total{method="b"} 100
plain 7
plain_seconds_count{le="+Inf"} 2 1700000000
`

func TestSamplesAreSummedUp(t *testing.T) {
	cases := map[string]struct {
		name   string
		labels []string
		want   float64
	}{
		"of a name":              {"calls", nil, 8.5},
		"of a name and a label":  {"calls", []string{"method", "b"}, 5.5},
		"of a name and labels":   {"calls", []string{"method", "b", "code", "OK"}, 4},
		"of a label with quotes": {"calls", []string{"code", `no \"way\"`}, 1.5},
		"without labels":         {"plain", nil, 7},
		"with a timestamp":       {"plain_seconds_count", nil, 2},
		"that are not there":     {"nothing", nil, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := sumSamples(testPage, c.name, c.labels)
			if err != nil || got != c.want {
				t.Errorf("got %v (%v), want %v", got, err, c.want)
			}
		})
	}
}
