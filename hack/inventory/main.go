// inventory says what the product is made of: the licence of each module in vendor/,
// and a bill of materials of a compiled program.
//
//	go run . licences ROOT               a table; fails on a licence that is not allowed
//	go run . sbom ROOT PROGRAM VERSION   CycloneDX, as JSON, to standard output
package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "inventory: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "licences":
		return licences(args[1], out)
	case len(args) == 4 && args[0] == "sbom":
		return sbom(args[1], args[2], args[3], out)
	}
	return fmt.Errorf("usage: inventory licences ROOT | inventory sbom ROOT PROGRAM VERSION")
}

// licences prints the licence of each module, and fails if one is not allowed.
func licences(root string, out io.Writer) error {
	modules, err := vendored(root)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	var refused []string
	for _, m := range modules {
		found, err := m.licences(root, modules)
		if err != nil {
			return err
		}
		for _, l := range found {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", m.path, m.version, l.id, l.file)
			if !l.allowed() {
				refused = append(refused, fmt.Sprintf("%s %s: %s is %s", m.path, m.version, l.file, l.id))
			}
		}
		if len(found) == 0 {
			refused = append(refused, fmt.Sprintf("%s %s: no licence found", m.path, m.version))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(refused) > 0 {
		return fmt.Errorf("not allowed (see allowed in hack/inventory/licence.go):\n%s", lines(refused))
	}
	fmt.Fprintf(out, "%d modules, all of them under licences that are allowed\n", len(modules))
	return nil
}
