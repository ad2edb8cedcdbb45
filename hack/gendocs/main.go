// gendocs writes the pages that are made from the code: docs/flags.md from the
// flag set, docs/events.md from the catalogue of reasons.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	_ "k8s.io/component-base/logs/json/register" // as in the program

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

func main() {
	out := flag.String("out", ".", "folder under which docs/ is written")
	flag.Parse()
	for name, page := range map[string]string{"flags.md": flags(), "events.md": events()} {
		path := filepath.Join(*out, "docs", name)
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			fmt.Fprintf(os.Stderr, "gendocs: writing %s: %v\n", path, err)
			os.Exit(1)
		}
	}
}

const generated = "<!-- Written by hack/generate.sh; changes belong into the code. -->\n\n"

// flags lists our own flags; those of the logging library follow by name only,
// because their texts change with it.
func flags() string {
	var page, logging strings.Builder
	page.WriteString("# Flags\n\n" + generated)
	page.WriteString("Names and meanings are those of the incumbent `csi-provisioner`; where a default differs the text says so.\n")
	page.WriteString("An unknown or contradictory flag ends the start with one sentence and exit code 2.\n\n")
	page.WriteString("| Flag | Default | Meaning |\n|---|---|---|\n")
	(&options.Options{}).Flags().VisitAll(func(f *pflag.Flag) {
		row := fmt.Sprintf("| `--%s` | %#q | %s |\n", f.Name, f.DefValue, cell(f.Usage))
		if isLogging(f.Name) {
			logging.WriteString(row)
			return
		}
		page.WriteString(row)
	})
	page.WriteString("\n## Logging\n\n| Flag | Default | Meaning |\n|---|---|---|\n" + logging.String())
	page.WriteString("\n## Environment\n\n| Variable | Meaning |\n|---|---|\n")
	page.WriteString("| `KUBECONFIG` | if set, overrides `--kubeconfig` |\n")
	page.WriteString("| `GOGC` | how garbage is collected (Go, package runtime); 50 if it is not set |\n")
	page.WriteString("| `GOMEMLIMIT` | how much memory Go tries to keep to; nine tenths of the container's limit if it is not set |\n")
	page.WriteString("| `POD_NAMESPACE` | namespace of the lease when `--leader-election-namespace` is not given |\n")
	page.WriteString("| `NAMESPACE` | with `--enable-capacity`, which needs it: namespace of the CSIStorageCapacity objects, that of the pod |\n")
	page.WriteString("| `POD_NAME` | with `--enable-capacity` and `--capacity-ownerref-level` of 0 or more, which need it: name of the pod |\n")
	page.WriteString("| `NODE_NAME` | the node of `--node-deployment`, which needs it; not looked at without |\n")
	page.WriteString("| `OTEL_...` | with `--enable-otel-tracing`: those of OpenTelemetry's SDK, see [metrics.md](metrics.md#traces); not looked at without |\n")
	page.WriteString("\n## Exit codes\n\n| Code | Meaning |\n|---|---|\n")
	page.WriteString("| 0 | asked to stop (SIGTERM, SIGINT), or `--help`, `--version` |\n")
	page.WriteString("| 1 | the work could not go on: driver or lease lost, API server not found |\n")
	page.WriteString("| 2 | a flag is wrong |\n")
	return page.String()
}

func isLogging(name string) bool {
	return name == "v" || name == "vmodule" || strings.HasPrefix(name, "log-") || strings.HasPrefix(name, "logging-")
}

// cell makes a text fit into a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n", " "), "|", "\\|")
}

func events() string {
	var page strings.Builder
	page.WriteString("# Events\n\n" + generated)
	page.WriteString("Everything that a user must know is an event on the claim (`kubectl describe pvc NAME`). Reasons are stable; each event names the object, the rule and the way out. A thing is said once, and again only when the verdict changes; while it stays the same, its event is renewed after 45 minutes, before the API server drops it.\n\n")
	page.WriteString("| Reason | Type | On | What it means | What to do |\n|---|---|---|---|---|\n")
	for _, e := range verdict.Catalogue() {
		fmt.Fprintf(&page, "| `%s` | %s | %s | %s | %s |\n", e.Reason, e.Type, e.Object, cell(e.Meaning), cell(e.Do))
	}
	return page.String()
}
