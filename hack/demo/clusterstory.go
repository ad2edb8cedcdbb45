package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// demoImage is the image that cluster/driver.yaml names. DEMO_IMAGE replaces it.
	demoImage = "csi-clone-provisioner-demo:dev"
	// installed is the name of everything that cluster/driver.yaml creates, and of its namespace.
	installed = "csi-clone-demo"
	// className is the StorageClass of source.yaml.
	className = "cloning"
)

// clusterStory is the story with pods in a cluster that exists.
type clusterStory struct {
	podStory
	// context is the one of the kubeconfig that leads to the cluster.
	context string
	// manifest has the driver, the provisioner and its rights.
	manifest string
}

// runInCluster runs the demo in the cluster of a context. Everything is removed when it
// returns, unless it went well and was to be kept.
func runInCluster(ctx context.Context, out *printer, name string) error {
	s, err := newClusterStory(ctx, out, name)
	if err != nil {
		return err
	}
	if err := s.refuse(ctx); err != nil {
		return err
	}
	out.note("a volume that a pod has written is cloned, and another pod reads the clone; Ctrl-C removes everything")
	err = runSteps(ctx, []step{s.install, s.write, s.cloneInUse, s.endWriter, s.read, s.dropSource})
	if err == nil && s.keep {
		out.heading("Leaving everything in the cluster (KEEP=1)")
		out.good("remove it: make demo-stop CONTEXT=%s", name)
		return nil
	}
	if err != nil && ctx.Err() == nil {
		s.showTrouble(context.WithoutCancel(ctx))
	}
	return errors.Join(err, s.remove(context.WithoutCancel(ctx)))
}

// removeFromCluster removes what a demo that was kept, or killed, has left in a cluster.
func removeFromCluster(ctx context.Context, out *printer, name string) error {
	s, err := newClusterStory(ctx, out, name)
	if err != nil {
		return err
	}
	return s.remove(ctx)
}

// newClusterStory connects to the cluster and says which one it is.
func newClusterStory(ctx context.Context, out *printer, name string) (*clusterStory, error) {
	d, err := newDemo(out)
	if err != nil {
		return nil, err
	}
	if d.kubectl, err = exec.LookPath("kubectl"); err != nil {
		return nil, fmt.Errorf("looking for kubectl, which the demo shows its steps with: %w", err)
	}
	image := os.Getenv("DEMO_IMAGE")
	if image == "" {
		image = demoImage
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{CurrentContext: name}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading context %q of the kubeconfig: %w", name, err)
	}
	config.QPS = -1 // what is waited for is asked for often
	if d.client, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("connecting to the cluster of context %q: %w", name, err)
	}
	version, err := d.client.Discovery().ServerVersion()
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster of context %q, %s: %w", name, config.Host, err)
	}
	out.note("the cluster of context %s: %s, Kubernetes %s; image %s", name, config.Host, version, image)
	d.target = "--context=" + name
	d.logs = fmt.Sprintf("kubectl %s logs -n %s deployment/%s -c csi-clone-provisioner", d.target, installed, installed)
	manifest, err := exec.CommandContext(ctx, d.kubectl, "kustomize", filepath.Join(d.root, manifests, "cluster")).Output()
	if err != nil {
		return nil, fmt.Errorf("rendering %scluster with kubectl kustomize: %w", manifests, err)
	}
	return &clusterStory{
		podStory: podStory{demo: d, image: image, pull: v1.PullIfNotPresent},
		context:  name, manifest: strings.ReplaceAll(string(manifest), demoImage, image),
	}, nil
}

// refuse returns an error if the cluster has objects with the names of the demo's.
func (s *clusterStory) refuse(ctx context.Context) error {
	found, err := s.found(ctx)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("the cluster of context %q has already %s; if an earlier demo left that, remove it with make demo-stop CONTEXT=%s",
			s.context, strings.Join(found, ", "), s.context)
	}
	return nil
}

// found returns the objects in the cluster that have the names of the demo's.
func (s *clusterStory) found(ctx context.Context) ([]string, error) {
	get := metav1.GetOptions{}
	var found []string
	var errs []error
	for what, read := range map[string]func() error{
		"namespace " + namespace:    func() error { _, err := s.client.CoreV1().Namespaces().Get(ctx, namespace, get); return err },
		"namespace " + installed:    func() error { _, err := s.client.CoreV1().Namespaces().Get(ctx, installed, get); return err },
		"StorageClass " + className: func() error { _, err := s.client.StorageV1().StorageClasses().Get(ctx, className, get); return err },
		"CSIDriver " + driverName:   func() error { _, err := s.client.StorageV1().CSIDrivers().Get(ctx, driverName, get); return err },
	} {
		switch err := read(); {
		case err == nil:
			found = append(found, what)
		case !apierrors.IsNotFound(err):
			errs = append(errs, fmt.Errorf("reading %s: %w", what, err))
		}
	}
	return found, errors.Join(errs...)
}

// install puts the driver and the provisioner into the cluster and waits until pods can have
// volumes of the driver.
func (s *clusterStory) install(ctx context.Context) error {
	s.out.heading("Installing the demo CSI driver and csi-clone-provisioner in namespace %s", installed)
	if err := s.feedKubectl(ctx, s.manifest, "apply", "-f", "-"); err != nil {
		return err
	}
	err := s.await(ctx, nil, "the driver is registered with a kubelet and the provisioner is ready", func(ctx context.Context) error {
		pods, err := s.client.CoreV1().Pods(installed).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(pods.Items) != 1 {
			return fmt.Errorf("there are %d pods in namespace %s", len(pods.Items), installed)
		}
		for _, status := range pods.Items[0].Status.ContainerStatuses {
			if !status.Ready {
				return fmt.Errorf("container %s is not ready; the pod is %s", status.Name, waitingFor(&pods.Items[0]))
			}
		}
		return s.registered(ctx, pods.Items[0].Spec.NodeName)
	})
	if err != nil {
		return fmt.Errorf("%w; the nodes must have image %s (make demo-image makes it, kind load docker-image %[2]s gives it to a kind cluster); see %s",
			err, s.image, s.logs)
	}
	return s.runKubectl(ctx, "get", "pods", "-n", installed, "-o", "wide")
}

// registered returns nil if the kubelet of a node knows the driver.
func (s *clusterStory) registered(ctx context.Context, node string) error {
	live, err := s.client.StorageV1().CSINodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, driver := range live.Spec.Drivers {
		if driver.Name == driverName {
			return nil
		}
	}
	return fmt.Errorf("the kubelet of node %q does not know driver %s", node, driverName)
}

// remove takes everything of the demo out of the cluster: claims and volumes first, for which
// the driver and the provisioner are needed, then these.
func (s *clusterStory) remove(ctx context.Context) error {
	s.out.heading("Removing everything from the cluster")
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	err := s.runKubectl(ctx, "delete", "--ignore-not-found", "-f", filepath.Join(s.root, manifests, "source.yaml"))
	if err != nil {
		return err
	}
	err = s.await(ctx, nil, "the driver's PVs are gone", func(ctx context.Context) error {
		list, err := s.client.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, pv := range list.Items {
			if pv.Spec.CSI != nil && pv.Spec.CSI.Driver == driverName {
				return fmt.Errorf("PV %q is %s", pv.Name, pv.Status.Phase)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w; the provisioner is left in the cluster, for it has to delete the volume; see %s", err, s.logs)
	}
	if err := s.feedKubectl(ctx, s.manifest, "delete", "--ignore-not-found", "-f", "-"); err != nil {
		return err
	}
	left, err := s.found(ctx)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("the cluster still has %s", strings.Join(left, ", "))
	}
	s.out.good("nothing of the demo is left in the cluster")
	return nil
}

// showTrouble shows the pods of the installation, and pods, claims and events of the story.
func (s *clusterStory) showTrouble(ctx context.Context) {
	if err := s.runKubectl(ctx, "describe", "pods", "-n", installed); err != nil {
		s.out.note("%v", err)
	}
	s.showTroubledPods(ctx)
}
