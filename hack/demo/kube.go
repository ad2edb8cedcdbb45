package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// runKubectl shows a command and what it prints.
func (d *demo) runKubectl(ctx context.Context, args ...string) error {
	return d.feedKubectl(ctx, "", args...)
}

// feedKubectl is runKubectl for a command that reads from its standard input.
func (d *demo) feedKubectl(ctx context.Context, input string, args ...string) error {
	d.out.line(bold, "    $ kubectl "+strings.Join(args, " "))
	command := exec.CommandContext(ctx, d.kubectl, append([]string{d.target}, args...)...)
	command.Dir, command.Stdin = d.root, strings.NewReader(input)
	out, err := command.CombinedOutput()
	d.out.text(string(out))
	if err != nil {
		return fmt.Errorf("running kubectl %s: %w", args[0], err)
	}
	return nil
}

// awaitBound waits until a claim is bound and returns its PV.
func (d *demo) awaitBound(ctx context.Context, claim string) (*v1.PersistentVolume, error) {
	began := time.Now()
	err := d.await(ctx, nil, "claim "+claim+" is Bound", func(ctx context.Context) error {
		live, err := d.client.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, claim, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if live.Status.Phase != v1.ClaimBound {
			return fmt.Errorf("it is %s", live.Status.Phase)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("after %.0f s: %w; see %s", time.Since(began).Seconds(), err, d.logs)
	}
	return d.pvOf(ctx, claim)
}

func (d *demo) pvOf(ctx context.Context, claim string) (*v1.PersistentVolume, error) {
	live, err := d.client.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, claim, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading claim %s: %w", claim, err)
	}
	pv, err := d.client.CoreV1().PersistentVolumes().Get(ctx, live.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading PV %q of claim %s: %w", live.Spec.VolumeName, claim, err)
	}
	if pv.Spec.CSI == nil {
		return nil, fmt.Errorf("PV %q of claim %s is not a CSI volume", pv.Name, claim)
	}
	return pv, nil
}

func (d *demo) handleOf(ctx context.Context, claim string) (string, error) {
	pv, err := d.pvOf(ctx, claim)
	if err != nil {
		return "", err
	}
	return pv.Spec.CSI.VolumeHandle, nil
}

// sumsOf returns the checksums of the files in a claim's volume.
func (d *demo) sumsOf(ctx context.Context, claim string) ([]fileSum, error) {
	handle, err := d.handleOf(ctx, claim)
	if err != nil {
		return nil, err
	}
	var sums []fileSum
	err = d.volumes.with(ctx, handle, func(path string) error {
		sums, err = sumContent(path)
		return err
	})
	return sums, err
}
