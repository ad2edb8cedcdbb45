package node

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unpack returns the files of an archive by name, and the names in their order.
func unpack(t *testing.T, archive []byte) (map[string]string, []string) {
	t.Helper()
	files := map[string]string{}
	var names []string
	for reader := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files, names
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(content) + header.Linkname
		names = append(names, header.Name)
	}
}

func TestAnImageHasItsNamesAndFiles(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	from := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(from, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	i := image{
		names: []string{"a.local/x:1", "b.local/y:2"}, entrypoint: []string{"/bin/program"},
		files: map[string]string{"bin/program": from}, links: map[string]string{"bin/link": "program"}, folders: []string{"tmp"},
	}
	var first, second bytes.Buffer
	if err := errors.Join(i.write(&first), i.write(&second)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same image written twice differs")
	}
	files, _ := unpack(t, first.Bytes())
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal([]byte(files["manifest.json"]), &manifest); err != nil || len(manifest) != 1 {
		t.Fatalf("manifest is %s (%v)", files["manifest.json"], err)
	}
	if !slices.Equal(manifest[0].RepoTags, i.names) || !strings.Contains(files[manifest[0].Config], "/bin/program") {
		t.Errorf("manifest is %+v, its configuration %s", manifest[0], files[manifest[0].Config])
	}
	layer, names := unpack(t, []byte(files[manifest[0].Layers[0]]))
	if want := []string{"bin/", "tmp/", "bin/program", "bin/link"}; !slices.Equal(names, want) {
		t.Errorf("the layer has %v, want %v", names, want)
	}
	if layer["bin/program"] != "content" || layer["bin/link"] != "program" {
		t.Errorf("the layer has %v", layer)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v (%v)", left, err)
	}
}

func TestAMissingFileIsNamed(t *testing.T) {
	i := image{names: []string{"a.local/x:1"}, files: map[string]string{"bin/program": "/none"}}
	err := i.write(io.Discard)
	if err == nil || !strings.Contains(err.Error(), "a.local/x:1") || !strings.Contains(err.Error(), "/none") {
		t.Errorf("error is %v, want one that names image and file", err)
	}
}

func TestAProgramRunsWithItsClosureAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("chroot takes root")
	}
	program, err := findTool("stat")
	if err != nil {
		t.Skip(err)
	}
	needed, err := closure(program)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	needed[program] = true
	for path := range needed {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, content, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	chroot, err := findTool("chroot")
	if err != nil {
		t.Skip(err)
	}
	if out, err := exec.Command(chroot, root, program, "--version").CombinedOutput(); err != nil {
		t.Errorf("it does not run: %v\n%s", err, out)
	}
}

func TestAMissingToolIsNamed(t *testing.T) {
	if _, err := findTool("no-such-tool"); err == nil || err.Error() != "this machine has no program no-such-tool" {
		t.Errorf("error is %v", err)
	}
}
