package node

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
)

// debianTools are programs of the machine that take the place of busybox's in the images,
// by their names there: busybox's dd has no oflag=nocache, for instance. The shell is one
// of them because that of busybox would call its own commands all the same.
func debianTools() map[string]string {
	return map[string]string{
		"sh": "bash", "dd": "dd", "blockdev": "blockdev", "base64": "base64", "sha256sum": "sha256sum", "stat": "stat", "mount": "mount",
	}
}

// images are what pods can run, each with all its names.
func (n *Node) images() ([]image, error) {
	base, err := n.busybox()
	if err != nil {
		return nil, err
	}
	agnhost := base
	agnhost.files = maps.Clone(base.files)
	agnhost.files["agnhost"] = n.binary("agnhost")
	agnhost.names, agnhost.entrypoint = n.names(Agnhost), []string{"/agnhost"}
	images := []image{
		{names: n.names(Pause), entrypoint: []string{"/pause"}, files: map[string]string{"pause": n.binary("pause")}},
		base,
		agnhost,
	}
	if len(n.opts.Programs) > 0 {
		demo := base
		demo.names, demo.files = n.names(Demo), maps.Clone(base.files)
		for _, path := range n.opts.Programs {
			demo.files[filepath.Base(path)] = path
		}
		images = append(images, demo)
	}
	return images, nil
}

// names returns the names of an image.
func (n *Node) names(of string) []string {
	names := []string{of}
	for name, image := range n.opts.Images {
		if image == of {
			names = append(names, name)
		}
	}
	return names
}

// busybox returns an image with busybox's commands, and with Debian's where those matter.
func (n *Node) busybox() (image, error) {
	i := image{
		names:      n.names(Busybox),
		entrypoint: []string{"/bin/sh"},
		files:      map[string]string{"bin/busybox": n.binary("busybox")},
		links:      map[string]string{},
		folders:    []string{"tmp"},
	}
	list, err := exec.Command(n.binary("busybox"), "--list").Output()
	if err != nil {
		return image{}, fmt.Errorf("asking busybox for its commands: %w", err)
	}
	for command := range strings.Lines(string(list)) {
		if name := strings.TrimSpace(command); name != "busybox" {
			i.links["bin/"+name] = "busybox"
		}
	}
	for name, tool := range debianTools() {
		path, err := findTool(tool)
		if err != nil {
			return image{}, fmt.Errorf("making image %s: %w", Busybox, err)
		}
		needed, err := closure(path)
		if err != nil {
			return image{}, err
		}
		delete(i.links, "bin/"+name)
		i.files["bin/"+name] = path
		for library := range needed {
			i.files[strings.TrimPrefix(library, "/")] = library
		}
	}
	return i, nil
}

// importImages gives the images to containerd.
func (n *Node) importImages(ctx context.Context) error {
	images, err := n.images()
	if err != nil {
		return err
	}
	for _, i := range images {
		reader, writer := io.Pipe()
		go func() { writer.CloseWithError(i.write(writer)) }()
		command := exec.CommandContext(ctx, n.binary("ctr"), "--address="+n.socket(), "--namespace=k8s.io",
			"images", "import", "--snapshotter="+n.snapshotter, "-")
		command.Stdin = reader
		out, err := command.CombinedOutput()
		_ = reader.Close() // so that the writer ends in any case
		if err != nil {
			return fmt.Errorf("importing image %s: %w\n%s", i.names[0], err, out)
		}
	}
	return nil
}

func (n *Node) binary(name string) string { return filepath.Join(n.opts.Binaries, name) }
