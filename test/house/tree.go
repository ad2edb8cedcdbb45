package house

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// modulePath is the import path of the main module.
const modulePath = "github.com/csi-clone-provisioner/csi-clone-provisioner"

// maxFileBytes is the size past which a file is no text that a person wrote.
const maxFileBytes = 1 << 20

// tree is the content of files by slash-separated path below the repository's
// root. Tests write theirs by hand.
type tree map[string]string

// readTree returns the files below root that are or would be committed: tracked
// ones and new ones that are not ignored, without vendored code. A file that is
// larger than a megabyte is left out.
func readTree(root string) (tree, error) {
	paths, err := listFiles(root)
	if err != nil {
		return nil, err
	}
	files := tree{}
	dirs := map[string]bool{}
	for _, p := range paths {
		if p == "" || strings.HasPrefix(p, "vendor/") {
			continue
		}
		name := filepath.Join(root, filepath.FromSlash(p))
		info, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // Deleted but not committed yet.
		}
		if err != nil {
			return nil, fmt.Errorf("looking at %s: %w", p, err)
		}
		if !info.Mode().IsRegular() || info.Size() > maxFileBytes {
			continue
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", p, err)
		}
		files[p] = string(content)
		dirs[filepath.Dir(name)] = true
	}
	// go test keeps a passed result until something changes that the test has
	// opened. It does not see what git read, so a new file would go unnoticed.
	for dir := range dirs {
		if _, err := os.ReadDir(dir); err != nil {
			return nil, fmt.Errorf("listing %s: %w", dir, err)
		}
	}
	return files, nil
}

// listFiles asks git for the paths of a work tree. Without git (a source
// archive) it returns everything but hidden folders and build output.
func listFiles(root string) ([]string, error) {
	if output, err := git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output(); err == nil && len(output) > 0 {
		return strings.Split(string(bytes.TrimRight(output, "\x00")), "\x00"), nil
	}
	var paths []string
	err := fs.WalkDir(os.DirFS(root), ".", func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && p != "." && (p == "bin" || p == "vendor" || strings.HasPrefix(entry.Name(), ".")) {
			return fs.SkipDir
		}
		if !entry.IsDir() {
			paths = append(paths, p)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", root, err)
	}
	return paths, nil
}

// git returns a git command for a folder. Where a hook runs us, git's variables
// name the repository of the hook: they are dropped.
func git(root string, args ...string) *exec.Cmd {
	cmd := exec.Command("git", append([]string{"-C", root}, args...)...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "GIT_") })
	return cmd
}

// paths returns the paths that satisfy keep, sorted.
func (t tree) paths(keep func(path string) bool) []string {
	var kept []string
	for p := range t {
		if keep(p) {
			kept = append(kept, p)
		}
	}
	slices.Sort(kept)
	return kept
}

// under reports whether a path lies in one of the folders.
func under(p string, folders ...string) bool {
	for _, folder := range folders {
		if strings.HasPrefix(p, folder+"/") {
			return true
		}
	}
	return false
}

// goFile reports whether the go command would read a path: not in a folder that
// it skips by name.
func goFile(p string) bool {
	if path.Ext(p) != ".go" {
		return false
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "testdata" || strings.HasPrefix(part, "_") || strings.HasPrefix(part, ".") {
			return false
		}
	}
	return true
}

func testFile(p string) bool { return strings.HasSuffix(p, "_test.go") }
