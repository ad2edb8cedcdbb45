package integration

import (
	"debug/buildinfo"
	"debug/elf"
	"os"
	"path/filepath"
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

// Tests are compiled with C and the race detector where that is possible. What
// ships is not: it must run in an image that holds nothing else.
func TestTheProgramThatShipsIsStaticAndStripped(t *testing.T) {
	t.Parallel()
	root, err := repo.Root()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "bin", "csi-clone-provisioner")
	if _, err := os.Stat(path); os.IsNotExist(err) {
		t.Skip("another program is tested, and this one was not built")
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	program, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	compare(t, []field{
		{"CGO_ENABLED", settings["CGO_ENABLED"], "0"},
		{"-trimpath", settings["-trimpath"], "true"},
		{"-race", settings["-race"], ""},
		{"it has a symbol table", program.Section(".symtab") != nil, false},
		{"it has debugging symbols", program.Section(".debug_info") != nil || program.Section(".zdebug_info") != nil, false},
		{"it asks for a linker", program.Section(".interp") != nil, false},
	})
}
