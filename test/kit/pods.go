package kit

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

// Nothing runs pods here: a pod is what the test says it is. Pods are named like
// claims, as "pod" or "namespace/pod".

// PodOption changes a pod before it is created.
type PodOption func(*v1.Pod)

// Pod returns a pod in the test's namespace, on no node and with no volumes. It
// is not created.
func (e *Env) Pod(name string, options ...PodOption) *v1.Pod {
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: e.Namespace},
		Spec: v1.PodSpec{
			Containers:                    []v1.Container{{Name: "main", Image: "none.example/none"}},
			RestartPolicy:                 v1.RestartPolicyNever,
			AutomountServiceAccountToken:  ptr.To(false),
			TerminationGracePeriodSeconds: ptr.To[int64](0),
			// Nodes give no sign of life, and after five minutes pods would be evicted.
			Tolerations: []v1.Toleration{{Operator: v1.TolerationOpExists}},
		},
	}
	for _, option := range options {
		option(pod)
	}
	if pod.Spec.NodeName != "" {
		pod.Spec.NodeName = e.nodeName(pod.Spec.NodeName)
	}
	return pod
}

// OnNode puts the pod on a node, as the scheduler would; see CreateNode for the
// name. CreatePod creates the node if need be.
func OnNode(node string) PodOption {
	return func(pod *v1.Pod) { pod.Spec.NodeName = node }
}

// Mounts gives the pod the volumes of claims.
func Mounts(claims ...string) PodOption {
	return func(pod *v1.Pod) {
		for _, claim := range claims {
			addVolume(pod, fmt.Sprintf("claim-%d", len(pod.Spec.Volumes)), v1.VolumeSource{
				PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
			})
		}
	}
}

// MountsEphemeral gives the pod a generic ephemeral volume. Its claim is made by
// the cluster, is called <pod>-<volume>, and goes with the pod.
func MountsEphemeral(volume string, template v1.PersistentVolumeClaimSpec) PodOption {
	return func(pod *v1.Pod) {
		addVolume(pod, volume, v1.VolumeSource{
			Ephemeral: &v1.EphemeralVolumeSource{VolumeClaimTemplate: &v1.PersistentVolumeClaimTemplate{Spec: template}},
		})
	}
}

// PodInNamespace puts the pod into another namespace; see Env.AddNamespace.
func PodInNamespace(ns string) PodOption {
	return func(pod *v1.Pod) { pod.Namespace = ns }
}

func addVolume(pod *v1.Pod, name string, source v1.VolumeSource) {
	pod.Spec.Volumes = append(pod.Spec.Volumes, v1.Volume{Name: name, VolumeSource: source})
	main := &pod.Spec.Containers[0]
	main.VolumeMounts = append(main.VolumeMounts, v1.VolumeMount{Name: name, MountPath: "/volumes/" + name})
}

// CreatePod creates pods. What is left of them at the end of the test is removed
// before the books are checked, for a claim cannot go while a pod uses it.
func (e *Env) CreatePod(pods ...*v1.Pod) {
	e.t.Helper()
	for _, pod := range pods {
		if pod.Spec.NodeName != "" {
			e.CreateNode(pod.Spec.NodeName)
		}
		// The cluster makes it shortly after the namespace, and takes no pods before.
		e.Eventually(fmt.Sprintf("namespace %q has its service account", pod.Namespace), func() error {
			_, err := e.Admin.CoreV1().ServiceAccounts(pod.Namespace).Get(e.Ctx, "default", metav1.GetOptions{})
			return err
		})
		created, err := e.Admin.CoreV1().Pods(pod.Namespace).Create(e.Ctx, pod, metav1.CreateOptions{})
		if err != nil {
			e.t.Fatalf("creating pod %s/%s: %v", pod.Namespace, pod.Name, err)
		}
		e.t.Cleanup(func() {
			err := e.deletePod(created.Namespace, created.Name)
			if err != nil && !apierrors.IsNotFound(err) {
				e.t.Error(err)
			}
		})
	}
}

// EndPod says that a pod has ended, as v1.PodSucceeded or v1.PodFailed, or gives
// it any other phase.
func (e *Env) EndPod(name string, phase v1.PodPhase) {
	e.t.Helper()
	namespace, name := e.split(name)
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		pod, err := e.Admin.CoreV1().Pods(namespace).Get(e.Ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		pod.Status.Phase = phase
		_, err = e.Admin.CoreV1().Pods(namespace).UpdateStatus(e.Ctx, pod, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		e.t.Fatalf("giving pod %s/%s phase %s: %v", namespace, name, phase, err)
	}
}

// DeletePod deletes a pod at once and waits until it is gone.
func (e *Env) DeletePod(name string) {
	e.t.Helper()
	namespace, name := e.split(name)
	if err := e.deletePod(namespace, name); err != nil {
		e.t.Fatal(err)
	}
	e.Eventually(fmt.Sprintf("pod %s/%s is gone", namespace, name), func() error {
		pod, err := e.Admin.CoreV1().Pods(namespace).Get(e.Ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return fmt.Errorf("it is still there, finalizers %v", pod.Finalizers)
	})
}

func (e *Env) deletePod(namespace, name string) error {
	err := e.Admin.CoreV1().Pods(namespace).Delete(e.Ctx, name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
	if err != nil {
		return fmt.Errorf("deleting pod %s/%s: %w", namespace, name, err)
	}
	return nil
}

// CreateNode creates a node, unless the test has it already, and returns its
// name: nodes are the cluster's, so env.Namespace is put in front unless it is
// part of the name. Pods of nodes that do not exist are removed by the cluster.
// The node is removed at the end of the test.
func (e *Env) CreateNode(name string) string {
	e.t.Helper()
	name = e.nodeName(name)
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1.LabelHostname: name}}}
	_, err := e.Admin.CoreV1().Nodes().Create(e.Ctx, node, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return name
	}
	if err != nil {
		e.t.Fatalf("creating node %q: %v", name, err)
	}
	e.t.Cleanup(func() {
		err := e.Admin.CoreV1().Nodes().Delete(e.Ctx, name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			e.t.Errorf("removing node %q: %v", name, err)
		}
	})
	return name
}

// nodeName returns a name that no node of another test has.
func (e *Env) nodeName(name string) string {
	if strings.Contains(name, e.Namespace) {
		return name
	}
	return e.Namespace + "-" + name
}
