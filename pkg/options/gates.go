package options

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

type gate struct {
	name string
	// def is the default.
	def bool
	// fixed: this version can only do the default.
	fixed bool
}

// gates lists the incumbent's feature gates.
func gates() []gate {
	return []gate{
		{"Topology", true, false},
		{"CrossNamespaceVolumeDataSource", false, false},
		{"VolumeAttributesClass", true, false}, // unless the API server has none
		{"ReleaseLeaderElectionOnExit", true, true},
	}
}

func gateNames() string {
	var names []string
	for _, g := range gates() {
		note := ""
		if g.fixed {
			note = ", fixed; the incumbent's default is " + strconv.FormatBool(!g.def)
		}
		names = append(names, fmt.Sprintf("%s (%t by default%s)", g.name, g.def, note))
	}
	return strings.Join(names, ", ")
}

// applyGates reads --feature-gates.
func (o *Options) applyGates(f *pflag.FlagSet) error {
	o.Topology = true
	list, err := f.GetStringSlice("feature-gates")
	if err != nil {
		return fmt.Errorf("reading --feature-gates: %w", err)
	}
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
		if err := o.applyGate(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (o *Options) applyGate(name string, value bool) error {
	for _, g := range gates() {
		switch {
		case g.name != name:
			continue
		case g.fixed && value != g.def:
			return fmt.Errorf("--feature-gates: %s=%t is not supported yet by this version; remove it", name, value)
		case name == "Topology":
			o.Topology = value
		case name == "CrossNamespaceVolumeDataSource":
			o.CrossNamespace = value
		case name == "VolumeAttributesClass" && value:
			o.AttributesClasses = GateOn
		case name == "VolumeAttributesClass":
			o.AttributesClasses = GateOff
		}
		return nil
	}
	return fmt.Errorf("--feature-gates: there is no gate %q; known are %s", name, gateNames())
}
