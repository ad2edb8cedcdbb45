package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// allowed are the licences under which a module may be part of the product: those that
// ask for no more than to be named. Another one is a decision, not a line here.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "Unlicense", "Zlib"}

// alsoFound are texts that licence files hold beside the licence, and that take nothing
// away: a grant of patents for instance.
var alsoFound = []string{"PatentGrant", "GooglePatentsFile", "GooglePatentClause"}

// enough is how much of a file must be of known licences, in percent. What is left are
// copyright lines and the list of files that an exception is for.
const enough = 60

// licenceFile is how files are called that hold one.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([.-].*)?$`)

// module is one in vendor/.
type module struct{ path, version string }

// licence is what one file says.
type licence struct {
	// id is that of SPDX, "A AND B" for several; "unknown" if too little was recognised.
	id string
	// file is its path below vendor/.
	file string
}

func (l licence) allowed() bool {
	return !slices.ContainsFunc(strings.Split(l.id, " AND "), func(id string) bool { return !slices.Contains(allowed, id) })
}

// vendored returns the modules from which packages are in vendor/.
func vendored(root string) ([]module, error) {
	f, err := os.Open(filepath.Join(root, "vendor", "modules.txt"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var modules []module
	lines := bufio.NewScanner(f)
	var pending *module
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) >= 3 && words[0] == "#":
			pending = &module{words[1], words[2]}
		case len(words) == 1 && pending != nil && !strings.HasPrefix(words[0], "#"):
			modules, pending = append(modules, *pending), nil // the first of its packages
		}
	}
	if len(modules) == 0 {
		return nil, fmt.Errorf("no module found in vendor/modules.txt")
	}
	return modules, lines.Err()
}

// licences returns what the licence files of a module say, those of code that it has
// taken from others, too, but not those of the other modules below its path.
func (m module) licences(root string, all []module) ([]licence, error) {
	vendor := filepath.Join(root, "vendor")
	var found []licence
	err := filepath.WalkDir(filepath.Join(vendor, filepath.FromSlash(m.path)), func(path string, d fs.DirEntry, err error) error {
		other := strings.TrimPrefix(filepath.ToSlash(path), filepath.ToSlash(vendor)+"/")
		if err == nil && d.IsDir() && other != m.path && slices.ContainsFunc(all, func(m module) bool { return m.path == other }) {
			return filepath.SkipDir
		}
		if err != nil || d.IsDir() || !licenceFile.MatchString(d.Name()) || strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(vendor, path)
		found = append(found, licence{identify(text), filepath.ToSlash(name)})
		return err
	})
	return found, err
}

// identify returns the licences of a text.
func identify(text []byte) string {
	coverage := licensecheck.Scan(text)
	var ids []string
	for _, match := range coverage.Match {
		if !slices.Contains(alsoFound, match.ID) && !slices.Contains(ids, match.ID) {
			ids = append(ids, match.ID)
		}
	}
	if len(ids) == 0 || coverage.Percent < enough {
		return "unknown"
	}
	slices.Sort(ids)
	return strings.Join(ids, " AND ")
}

func lines(list []string) string { return "  " + strings.Join(list, "\n  ") }
