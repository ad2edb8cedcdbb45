package node

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
)

// image is what is written into an archive: one layer.
type image struct {
	names      []string
	entrypoint []string
	// files are the paths within the image and where their content is taken from.
	files map[string]string
	// links are symbolic links, folders folders that anybody may write to.
	links   map[string]string
	folders []string
}

// write writes the image as an archive of the form that "docker save" has, which
// containerd imports with all its names.
func (i image) write(to io.Writer) error {
	layer, digest, err := i.layer()
	if err != nil {
		return fmt.Errorf("making image %s: %w", i.names[0], err)
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": i.entrypoint, "Env": []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest}},
	})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(config)
	configName, layerName := hex.EncodeToString(sum[:])+".json", digest+"/layer.tar"
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": i.names, "Layers": []string{layerName}}})
	if err != nil {
		return err
	}
	size, err := layer.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = layer.Seek(0, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("reading the layer of image %s: %w", i.names[0], err)
	}
	archive := tar.NewWriter(to)
	for _, part := range []struct {
		name    string
		size    int64
		content io.Reader
	}{
		{configName, int64(len(config)), bytes.NewReader(config)},
		{layerName, size, layer},
		{"manifest.json", int64(len(manifest)), bytes.NewReader(manifest)},
	} {
		err := archive.WriteHeader(&tar.Header{Name: part.name, Mode: 0o644, Size: part.size, Typeflag: tar.TypeReg})
		if err == nil {
			_, err = io.Copy(archive, part.content)
		}
		if err != nil {
			return fmt.Errorf("writing image %s: %w", i.names[0], err)
		}
	}
	return archive.Close()
}

// layer writes the layer into a file and returns it with its digest.
func (i image) layer() (*os.File, string, error) {
	file, err := os.CreateTemp("", "layer-")
	if err != nil {
		return nil, "", err
	}
	sum := sha256.New()
	if err := i.fill(tar.NewWriter(io.MultiWriter(file, sum))); err != nil {
		_ = file.Close() // the other error is the cause
		_ = os.Remove(file.Name())
		return nil, "", err
	}
	return file, hex.EncodeToString(sum.Sum(nil)), nil
}

// fill writes folders first, then files, then links, each in the order of their paths, so
// that the same content has the same digest.
func (i image) fill(layer *tar.Writer) error {
	for _, dir := range i.allFolders() {
		mode := int64(0o755)
		if slices.Contains(i.folders, dir) {
			mode = 0o1777
		}
		if err := layer.WriteHeader(&tar.Header{Name: dir + "/", Mode: mode, Typeflag: tar.TypeDir}); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(i.files) {
		if err := addFile(layer, name, i.files[name]); err != nil {
			return fmt.Errorf("file %s: %w", name, err)
		}
	}
	for _, name := range sortedKeys(i.links) {
		header := &tar.Header{Name: name, Linkname: i.links[name], Mode: 0o777, Typeflag: tar.TypeSymlink}
		if err := layer.WriteHeader(header); err != nil {
			return err
		}
	}
	return layer.Close()
}

func addFile(layer *tar.Writer, name, from string) error {
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := layer.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: info.Size(), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err = io.Copy(layer, file)
	return err
}

// allFolders returns the folders of all that is in the image, parents before children.
func (i image) allFolders() []string {
	found := map[string]bool{}
	add := func(dir string) {
		for ; dir != "." && dir != "/" && dir != ""; dir = path.Dir(dir) {
			found[dir] = true
		}
	}
	for _, dir := range i.folders {
		add(dir)
	}
	for name := range i.files {
		add(path.Dir(name))
	}
	for name := range i.links {
		add(path.Dir(name))
	}
	var all []string
	for dir := range found {
		all = append(all, dir)
	}
	slices.SortFunc(all, strings.Compare) // a parent is a prefix, so it comes first
	return all
}

func sortedKeys(of map[string]string) []string {
	var keys []string
	for key := range of {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
