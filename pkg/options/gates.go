package options

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

type gate struct {
	name string
	// def is the default; theirs is the incumbent's if that is another, told in the help.
	def    bool
	theirs string
	// alpha: AllAlpha sets it.
	alpha bool
	set   func(*Options, bool)
}

// gates lists the incumbent's feature gates.
func gates() []gate {
	return []gate{
		{"Topology", true, "", false, func(o *Options, on bool) { o.Topology = on }},
		{"CrossNamespaceVolumeDataSource", false, "", true, func(o *Options, on bool) { o.CrossNamespace = on }},
		{"VolumeAttributesClass", true, "", false, func(o *Options, on bool) { // unless the API server has none
			o.AttributesClasses = GateOff
			if on {
				o.AttributesClasses = GateOn
			}
		}},
		{"ReleaseLeaderElectionOnExit", true, "false", true, func(o *Options, on bool) { o.LeaderElection.ReleaseOnExit = on }},
	}
}

// allAlpha and allBeta set all gates of a stage that are not set by name. None is beta.
const allAlpha, allBeta = "AllAlpha", "AllBeta"

func gateNames() string {
	var names []string
	for _, g := range gates() {
		note := ""
		if g.theirs != "" {
			note = "; the incumbent's default is " + g.theirs
		}
		names = append(names, fmt.Sprintf("%s (%t by default%s)", g.name, g.def, note))
	}
	return strings.Join(append(names, allAlpha, allBeta), ", ")
}

// applyGates reads --feature-gates.
func (o *Options) applyGates(f *pflag.FlagSet) error {
	list, err := f.GetStringSlice("feature-gates")
	if err != nil {
		return fmt.Errorf("reading --feature-gates: %w", err)
	}
	given := map[string]bool{}
	for _, item := range list {
		if item = strings.TrimSpace(item); item == "" {
			continue // as the incumbent does
		}
		name, text, _ := strings.Cut(item, "=")
		name, text = strings.TrimSpace(name), strings.TrimSpace(text)
		value, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("--feature-gates: %q is not of the form Name=true or Name=false", item)
		}
		known := slices.ContainsFunc(gates(), func(g gate) bool { return g.name == name })
		if !known && name != allAlpha && name != allBeta {
			return fmt.Errorf("--feature-gates: there is no gate %q; known are %s", name, gateNames())
		}
		given[name] = value
	}
	o.Topology, o.LeaderElection.ReleaseOnExit = true, true
	for _, g := range gates() {
		value, set := given[g.name]
		if !set && g.alpha {
			value, set = given[allAlpha]
		}
		if set {
			g.set(o, value)
		}
	}
	return nil
}
