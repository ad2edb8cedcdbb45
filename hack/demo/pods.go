package main

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// mount says where a pod sees a claim's volume.
type mount struct{ claim, path string }

// runPod creates a pod that runs a script once. A pod ends at the first command that
// fails.
func (s *podStory) runPod(ctx context.Context, name, script string, mounts ...mount) error {
	container := v1.Container{
		Name: "main", Image: s.image, ImagePullPolicy: s.pull,
		Command: []string{"/bin/sh", "-ec", script},
	}
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: v1.PodSpec{
			RestartPolicy: v1.RestartPolicyNever,
			// A shell that is the first process of its container does not hear SIGTERM.
			TerminationGracePeriodSeconds: ptr.To[int64](1),
		},
	}
	for _, m := range mounts {
		container.VolumeMounts = append(container.VolumeMounts, v1.VolumeMount{Name: m.claim, MountPath: m.path})
		pod.Spec.Volumes = append(pod.Spec.Volumes, v1.Volume{Name: m.claim, VolumeSource: v1.VolumeSource{
			PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: m.claim},
		}})
	}
	pod.Spec.Containers = []v1.Container{container}
	if _, err := s.client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating pod %q: %w", name, err)
	}
	return nil
}

// awaitLog waits until a pod has written a word of its own line, and returns its log.
func (s *podStory) awaitLog(ctx context.Context, pod, word string) (string, error) {
	var log string
	err := s.await(ctx, nil, "pod "+pod+" has said: "+word, func(ctx context.Context) error {
		content, err := s.client.CoreV1().Pods(namespace).GetLogs(pod, &v1.PodLogOptions{}).DoRaw(ctx)
		if err != nil {
			return s.podTrouble(ctx, pod, err)
		}
		log = string(content)
		if !strings.Contains("\n"+log, "\n"+word+"\n") {
			return fmt.Errorf("it has said %d lines", strings.Count(log, "\n"))
		}
		return nil
	})
	return log, err
}

// awaitEnd waits until a pod has ended well, and returns its log.
func (s *podStory) awaitEnd(ctx context.Context, pod string) (string, error) {
	err := s.await(ctx, nil, "pod "+pod+" has ended", func(ctx context.Context) error {
		live, err := s.client.CoreV1().Pods(namespace).Get(ctx, pod, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if live.Status.Phase != v1.PodSucceeded {
			return fmt.Errorf("it is %s", waitingFor(live))
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	log, err := s.client.CoreV1().Pods(namespace).GetLogs(pod, &v1.PodLogOptions{}).DoRaw(ctx)
	if err != nil {
		return "", fmt.Errorf("reading the log of pod %q: %w", pod, err)
	}
	return string(log), nil
}

// podTrouble adds to an error what the pod waits for.
func (s *podStory) podTrouble(ctx context.Context, pod string, err error) error {
	live, readErr := s.client.CoreV1().Pods(namespace).Get(ctx, pod, metav1.GetOptions{})
	if readErr != nil {
		return readErr
	}
	return fmt.Errorf("%w (the pod is %s)", err, waitingFor(live))
}

// writeScript writes the files of the source with random data.
func writeScript() string {
	var script strings.Builder
	for _, file := range content() {
		fmt.Fprintf(&script, "mkdir -p /data/%s\nhead -c %d /dev/urandom >/data/%s\n", path.Dir(file.name), file.size, file.name)
	}
	return script.String()
}

// sumMark begins the lines that tell of a file.
const sumMark = "sum"

// sumScript tells size and checksum of every file below a folder.
func sumScript(dir string) string {
	return fmt.Sprintf("find %s -type f | sort | while read -r f; do echo %s $(stat -c %%s \"$f\") $(sha256sum \"$f\"); done\n", dir, sumMark)
}

// readSums finds in a log what sumScript told of a folder.
func readSums(log, dir string) ([]fileSum, error) {
	var sums []fileSum
	for line := range strings.Lines(log) {
		fields := strings.Fields(line)
		if len(fields) != 4 || fields[0] != sumMark || !strings.HasPrefix(fields[3], dir+"/") {
			continue
		}
		size, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("reading a pod's log, line %q: %w", line, err)
		}
		sums = append(sums, fileSum{name: strings.TrimPrefix(fields[3], dir+"/"), size: size, sum: fields[2]})
	}
	if len(sums) == 0 {
		return nil, fmt.Errorf("the pod told of no file below %s; it said:\n%s", dir, log)
	}
	return sums, nil
}
