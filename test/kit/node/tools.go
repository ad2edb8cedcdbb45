package node

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// hostTools are programs of the machine that the kubelet calls.
func hostTools() []string { return []string{"mount", "umount", "losetup"} }

// toolFolders are where a system keeps its programs; not every user's PATH has all.
func toolFolders() []string {
	return []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
}

// findTool returns the path of a program of the machine.
func findTool(name string) (string, error) {
	for _, dir := range toolFolders() {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("this machine has no program %s", name)
}

// libraryFolders returns where shared libraries are looked for.
func libraryFolders() ([]string, error) {
	folders, err := filepath.Glob("/lib/*-linux-gnu")
	if err != nil {
		return nil, err
	}
	return append(folders, "/lib64", "/usr/lib64", "/lib", "/usr/lib"), nil
}

// closure returns the files that a program needs to run: its loader and libraries, and
// theirs, by the path at which they are asked for. A static program needs none.
func closure(program string) (map[string]bool, error) {
	folders, err := libraryFolders()
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{}
	rest := []string{program}
	for len(rest) > 0 {
		loader, libraries, err := needs(rest[0])
		if err != nil {
			return nil, fmt.Errorf("looking what program %s needs: %w", program, err)
		}
		rest = rest[1:]
		if loader != "" {
			needed[loader] = true
		}
		for _, name := range libraries {
			path, err := findIn(folders, name)
			if err != nil {
				return nil, fmt.Errorf("looking what program %s needs: %w", program, err)
			}
			if !needed[path] {
				needed[path] = true
				rest = append(rest, path)
			}
		}
	}
	return needed, nil
}

// needs reads a program's or a library's loader and the names of its libraries.
func needs(path string) (loader string, libraries []string, err error) {
	file, err := elf.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type != elf.PT_INTERP {
			continue
		}
		text := make([]byte, segment.Filesz)
		if _, err := segment.ReadAt(text, 0); err != nil {
			return "", nil, err
		}
		loader = string(text[:len(text)-1]) // it ends in a zero byte
	}
	libraries, err = file.ImportedLibraries()
	// A static program has no table of libraries.
	if errors.Is(err, elf.ErrNoSymbols) {
		err = nil
	}
	return loader, libraries, err
}

func findIn(folders []string, name string) (string, error) {
	for _, dir := range folders {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path, err
		}
	}
	return "", fmt.Errorf("library %s is in none of %v", name, folders)
}
