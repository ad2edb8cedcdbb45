// Command plot draws what `make bench` found, and writes its tables into a page:
//
//	plot --report golden.json --svg golden.svg --page performance.md
//
// It is a module of its own, so that what draws is no part of the product.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/bench/figures"
)

func main() {
	report := flag.String("report", "", "the report, as make bench leaves it")
	svg := flag.String("svg", "", "where to draw the claims bound over time; empty: nowhere")
	page := flag.String("page", "", "page of Markdown with the marks golden:begin and golden:end, between which the tables go; empty: they are printed")
	flag.Parse()
	if err := run(*report, *svg, *page); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

func run(report, svg, page string) error {
	r, err := figures.Read(report)
	if err != nil {
		return err
	}
	if svg != "" {
		if err := draw(r, svg); err != nil {
			return err
		}
	}
	if page == "" {
		fmt.Print(r.Markdown())
		return nil
	}
	content, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("reading the page: %w", err)
	}
	changed, err := figures.Insert(string(content), "golden", r.Markdown())
	if err != nil {
		return fmt.Errorf("writing the tables into %s: %w", page, err)
	}
	if err := os.WriteFile(page, []byte(changed), 0o644); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	return nil
}
