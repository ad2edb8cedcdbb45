package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// podStory is what all stories with pods have in common.
type podStory struct {
	*demo
	// image is what the pods run; it has a shell. pull says when the node is to get it.
	image string
	pull  v1.PullPolicy
}

// The pods of the story.
const (
	writerPod  = "writer"
	readerPod  = "reader"
	witnessPod = "witness"
)

func (s *podStory) write(ctx context.Context) error {
	s.out.heading("A pod writes files into claim %s, and goes on running", sourceName)
	if err := s.runKubectl(ctx, "apply", "-f", manifests+"source.yaml"); err != nil {
		return err
	}
	// The last word of the log says that all is written.
	script := writeScript() + sumScript("/data") + "sync; echo written; exec sleep 1000000"
	if err := s.runPod(ctx, writerPod, script, mount{claim: sourceName, path: "/data"}); err != nil {
		return err
	}
	log, err := s.awaitLog(ctx, writerPod, "written")
	if err != nil {
		return err
	}
	if s.sums, err = readSums(log, "/data"); err != nil {
		return err
	}
	pv, err := s.pvOf(ctx, sourceName)
	if err != nil {
		return err
	}
	s.sourcePV, s.sourceVolume = pv.Name, pv.Spec.CSI.VolumeHandle
	return s.runKubectl(ctx, "get", "pods,pvc", "-n", namespace, "-o", "wide")
}

func (s *podStory) cloneInUse(ctx context.Context) error {
	const inUse = "CloneSourceInUse"
	s.out.heading("Cloning while the pod runs: the clone waits, and says why")
	path := manifests + "clone.yaml"
	manifest, err := os.ReadFile(filepath.Join(s.root, path))
	if err != nil {
		return fmt.Errorf("reading the clone's manifest: %w", err)
	}
	s.out.text(string(manifest))
	if err := s.runKubectl(ctx, "apply", "-f", path); err != nil {
		return err
	}
	err = s.await(ctx, nil, "the clone says why it waits", func(ctx context.Context) error {
		events, err := s.client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{
			FieldSelector: "reason=" + inUse + ",involvedObject.name=" + cloneName,
		})
		if err == nil && len(events.Items) == 0 {
			return errors.New("there is no event yet")
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.showEvents(ctx)
}

func (s *podStory) showEvents(ctx context.Context) error {
	return s.runKubectl(ctx, "get", "events", "-n", namespace, "--field-selector", "involvedObject.kind=PersistentVolumeClaim,involvedObject.name="+cloneName,
		"-o", "custom-columns=TYPE:.type,REASON:.reason,FROM:.source.component,MESSAGE:.message")
}

func (s *podStory) endWriter(ctx context.Context) error {
	s.out.heading("The pod ends: the clone starts by itself")
	if err := s.runKubectl(ctx, "delete", "pod", writerPod, "-n", namespace); err != nil {
		return err
	}
	if _, err := s.awaitBound(ctx, cloneName); err != nil {
		return err
	}
	return s.showEvents(ctx)
}

func (s *podStory) read(ctx context.Context) error {
	const changed = "notes.txt"
	s.out.heading("Proof: a pod reads source and clone, then changes %s in the clone", changed)
	script := sumScript("/clone") + fmt.Sprintf("cp /clone/%[1]s /tmp/kept; echo 'the clone goes its own way' >/clone/%[1]s\n", changed) +
		sumScript("/source") + fmt.Sprintf("cp /tmp/kept /clone/%s; sync\n", changed)
	err := s.runPod(ctx, readerPod, script, mount{claim: sourceName, path: "/source"}, mount{claim: cloneName, path: "/clone"})
	if err != nil {
		return err
	}
	log, err := s.awaitEnd(ctx, readerPod)
	if err != nil {
		return err
	}
	clone, err := readSums(log, "/clone")
	if err != nil {
		return err
	}
	source, err := readSums(log, "/source")
	if err != nil {
		return err
	}
	s.out.text(table(s.sums, clone))
	if err := sameContent(s.sums, clone); err != nil {
		return err
	}
	if err := sameContent(s.sums, source); err != nil {
		return fmt.Errorf("the change of the clone shows in the source: %w", err)
	}
	s.out.good("%d files are equal; after the change of the clone the source is as it was", len(clone))
	return nil
}

func (s *podStory) dropSource(ctx context.Context) error {
	s.out.heading("Deleting the source: its volume goes, the clone stays")
	// Kubernetes keeps a claim for as long as there is a pod that names it, ended or not.
	if err := s.runKubectl(ctx, "delete", "pod", readerPod, "-n", namespace); err != nil {
		return err
	}
	if err := s.runKubectl(ctx, "delete", "pvc", sourceName, "-n", namespace); err != nil {
		return err
	}
	err := s.await(ctx, nil, "the source's PV "+s.sourcePV+" is gone", func(ctx context.Context) error {
		_, err := s.client.CoreV1().PersistentVolumes().Get(ctx, s.sourcePV, metav1.GetOptions{})
		switch {
		case err == nil:
			return errors.New("it is still there")
		case apierrors.IsNotFound(err):
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := s.runPod(ctx, witnessPod, sumScript("/clone"), mount{claim: cloneName, path: "/clone"}); err != nil {
		return err
	}
	log, err := s.awaitEnd(ctx, witnessPod)
	if err != nil {
		return err
	}
	clone, err := readSums(log, "/clone")
	if err != nil {
		return err
	}
	if err := sameContent(s.sums, clone); err != nil {
		return err
	}
	s.out.good("another pod reads all %d files of the clone, checksums as they were in the source", len(clone))
	return nil
}

// showTroubledPods shows the events of the story's namespace.
func (s *podStory) showTroubledPods(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.runKubectl(ctx, "get", "pods,pvc,events", "-n", namespace); err != nil {
		s.out.note("%v", err)
	}
}

// waitingFor says of a pod what it waits for, for error messages.
func waitingFor(pod *v1.Pod) string {
	reasons := []string{string(pod.Status.Phase)}
	for _, status := range pod.Status.ContainerStatuses {
		if status.State.Waiting != nil {
			reasons = append(reasons, status.State.Waiting.Reason, status.State.Waiting.Message)
		}
	}
	return strings.Join(reasons, " ")
}

// seconds is how times are shown.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
