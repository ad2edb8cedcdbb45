package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// manifests is where this program's manifests are, seen from the root.
const manifests = "hack/demo/"

func (d *demo) createSource(ctx context.Context) error {
	d.out.heading("Creating a StorageClass, a namespace and the source claim %s", sourceName)
	if err := d.runKubectl(ctx, "apply", "-f", manifests+"source.yaml"); err != nil {
		return err
	}
	pv, err := d.awaitBound(ctx, sourceName)
	if err != nil {
		return err
	}
	d.sourcePV, d.sourceVolume = pv.Name, pv.Spec.CSI.VolumeHandle
	return nil
}

func (d *demo) fillSource(ctx context.Context) error {
	d.out.heading("Writing files into the source volume, through the driver's node service")
	return d.volumes.with(ctx, d.sourceVolume, func(path string) error {
		if err := writeContent(path, d.seed); err != nil {
			return err
		}
		var err error
		if d.sums, err = sumContent(path); err != nil {
			return err
		}
		var total int64
		for _, file := range d.sums {
			total += file.size
		}
		d.out.good("%d files, %.1f MiB", len(d.sums), float64(total)/mebibyte)
		return nil
	})
}

func (d *demo) createClone(ctx context.Context) error {
	d.out.heading("Cloning: a claim whose dataSource is the source claim")
	path := manifests + "clone.yaml"
	manifest, err := os.ReadFile(filepath.Join(d.root, path))
	if err != nil {
		return fmt.Errorf("reading the clone's manifest: %w", err)
	}
	d.out.text(string(manifest))
	if err := d.runKubectl(ctx, "apply", "-f", path); err != nil {
		return err
	}
	_, err = d.awaitBound(ctx, cloneName)
	return err
}

func (d *demo) showObjects(ctx context.Context) error {
	d.out.heading("What Kubernetes says now")
	if err := d.runKubectl(ctx, "get", "pvc,pv", "-n", namespace); err != nil {
		return err
	}
	return d.runKubectl(ctx, "get", "events", "-n", namespace, "--field-selector", "involvedObject.name="+cloneName,
		"-o", "custom-columns=TYPE:.type,REASON:.reason,FROM:.source.component,MESSAGE:.message")
}

func (d *demo) compareContent(ctx context.Context) error {
	d.out.heading("Proof: every file in source and clone")
	clone, err := d.sumsOf(ctx, cloneName)
	if err != nil {
		return err
	}
	d.out.text(table(d.sums, clone))
	return sameContent(d.sums, clone)
}

func (d *demo) changeClone(ctx context.Context) error {
	const changed = "notes.txt"
	d.out.heading("Changing %s in the clone: the source must not see it", changed)
	handle, err := d.handleOf(ctx, cloneName)
	if err != nil {
		return err
	}
	var original []byte
	err = d.volumes.with(ctx, handle, func(path string) error {
		original, err = os.ReadFile(filepath.Join(path, changed))
		return errors.Join(err, os.WriteFile(filepath.Join(path, changed), []byte("the clone goes its own way\n"), 0o644))
	})
	if err != nil {
		return fmt.Errorf("changing the clone: %w", err)
	}
	source, err := d.sumsOf(ctx, sourceName)
	if err != nil {
		return err
	}
	clone, err := d.sumsOf(ctx, cloneName)
	if err != nil {
		return err
	}
	d.out.text(table(source, clone))
	if err := sameContent(d.sums, source); err != nil {
		return fmt.Errorf("the change shows in the source: %w", err)
	}
	if slices.Equal(source, clone) {
		return errors.New("the change does not show in the clone")
	}
	d.out.good("only the clone has changed; it gets its old content back")
	return d.volumes.with(ctx, handle, func(path string) error {
		return os.WriteFile(filepath.Join(path, changed), original, 0o644)
	})
}

func (d *demo) deleteSource(ctx context.Context) error {
	d.out.heading("Deleting the source: its volume goes, the clone stays")
	if err := d.runKubectl(ctx, "delete", "pvc", sourceName, "-n", namespace); err != nil {
		return err
	}
	err := d.await(ctx, nil, "the source's PV "+d.sourcePV+" is gone", func(ctx context.Context) error {
		_, err := d.client.CoreV1().PersistentVolumes().Get(ctx, d.sourcePV, metav1.GetOptions{})
		if err == nil {
			return errors.New("it is still there")
		}
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	there, err := d.volumes.exists(ctx, d.sourceVolume)
	if err != nil {
		return err
	}
	if there {
		return fmt.Errorf("the driver still has the source's volume %q", d.sourceVolume)
	}
	d.out.good("the driver has no volume %s any more", d.sourceVolume)
	if err := d.runKubectl(ctx, "get", "pvc,pv", "-n", namespace); err != nil {
		return err
	}
	clone, err := d.sumsOf(ctx, cloneName)
	if err != nil {
		return err
	}
	if err := sameContent(d.sums, clone); err != nil {
		return err
	}
	d.out.good("the clone still holds all %d files, checksums as they were in the source", len(clone))
	return nil
}
