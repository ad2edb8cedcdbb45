package options_test

import (
	"strings"
	"testing"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
)

func TestCapacityFlags(t *testing.T) {
	pod := map[string]string{"NAMESPACE": "storage", "POD_NAME": "csi-0", "POD_NAMESPACE": "pods"}
	usual := options.Capacity{
		Enabled: true, PollInterval: time.Minute, OwnerRefLevel: 1, Threads: 1, Burst: 5, Namespace: "storage", PodName: "csi-0",
	}
	changed := func(change func(*options.Capacity)) options.Capacity {
		c := usual
		change(&c)
		return c
	}
	for _, c := range []struct {
		name, args string
		vars       map[string]string
		want       options.Capacity
	}{
		{"the defaults", "--enable-capacity", pod, usual},
		{"all flags", "--enable-capacity --capacity-for-immediate-binding --capacity-poll-interval=5s --capacity-ownerref-level=2 --capacity-threads=8 --kube-api-capacity-qps=2.5 --kube-api-capacity-burst=20", pod,
			options.Capacity{Enabled: true, Immediate: true, PollInterval: 5 * time.Second, OwnerRefLevel: 2, Threads: 8, QPS: 2.5, Burst: 20, Namespace: "storage", PodName: "csi-0"}},
		{"the pod itself", "--enable-capacity --capacity-ownerref-level=0", pod, changed(func(c *options.Capacity) { c.OwnerRefLevel = 0 })},
		{"without an owner no pod is needed", "--enable-capacity --capacity-ownerref-level=-1", map[string]string{"NAMESPACE": "storage"},
			changed(func(c *options.Capacity) { c.OwnerRefLevel, c.PodName = -1, "" })},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := options.Parse(strings.Fields(c.args), environment(c.vars))
			if err != nil {
				t.Fatal(err)
			}
			if o.Capacity != c.want {
				t.Errorf("got  %+v\nwant %+v", o.Capacity, c.want)
			}
		})
	}
}

func TestCapacityRefusals(t *testing.T) {
	for _, c := range []struct{ name, args, missing, want string }{
		{"no namespace", "", "NAMESPACE", "--enable-capacity needs the environment variable NAMESPACE, the namespace of the CSIStorageCapacity objects; set it to metadata.namespace of the pod (downward API)"},
		{"no pod", "", "POD_NAME", "--capacity-ownerref-level=1 needs the environment variable POD_NAME; set it to metadata.name of the pod (downward API), or give -1 for objects without an owner"},
		{"an unknown level", "--capacity-ownerref-level=-2", "", "--capacity-ownerref-level=-2 is unknown; give -1 for objects without an owner, 0 for the pod, 1 for its controller"},
		{"no workers", "--capacity-threads=0", "", "--capacity-threads must be at least 1"},
		{"no pause between polls", "--capacity-poll-interval=0", "", "--capacity-poll-interval must be positive"},
		{"a rate that is no number", "--kube-api-capacity-qps=NaN", "", "--kube-api-capacity-qps=NaN is no rate; give a number, 0 for no limit"},
		{"a negative rate", "--kube-api-capacity-qps=-1", "", "--kube-api-capacity-qps and --kube-api-capacity-burst must not be negative"},
		{"a negative burst", "--kube-api-capacity-burst=-1", "", "--kube-api-capacity-qps and --kube-api-capacity-burst must not be negative"},
	} {
		t.Run(c.name, func(t *testing.T) {
			vars := map[string]string{"NAMESPACE": "storage", "POD_NAME": "csi-0", "POD_NAMESPACE": "pods"}
			if c.missing != "" {
				vars[c.missing] = ""
			}
			_, err := options.Parse(append([]string{"--enable-capacity"}, strings.Fields(c.args)...), environment(vars))
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}
