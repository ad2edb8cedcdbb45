package app

import (
	"testing"

	"k8s.io/client-go/rest"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/capacity"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
)

// F-5: the limit for capacity is that of one client.
func TestTheClientForCapacityIsOneOfItsOwn(t *testing.T) {
	config := &rest.Config{Host: "https://api.example", QPS: 7, Burst: 70}
	for _, c := range []struct {
		name    string
		options options.Capacity
		qps     float32
		made    bool
	}{
		{"none without capacity", options.Capacity{QPS: 3}, 0, false},
		{"its own limit", options.Capacity{Enabled: true, QPS: 3, Burst: 4}, 3, true},
		{"no limit", options.Capacity{Enabled: true, Burst: 4}, -1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := capacityClient(config, c.options)
			if err != nil || (client != nil) != c.made {
				t.Fatalf("got %v, %v", client, err)
			}
			if config.QPS != 7 || config.Burst != 70 || config.RateLimiter != nil {
				t.Errorf("the others' limit is %v and %d now", config.QPS, config.Burst)
			}
			if !c.made {
				return
			}
			limiter := client.StorageV1().RESTClient().GetRateLimiter()
			switch {
			case c.qps < 0 && limiter != nil && limiter.QPS() > 0:
				t.Errorf("it is limited to %v", limiter.QPS())
			case c.qps > 0 && (limiter == nil || limiter.QPS() != c.qps):
				t.Errorf("its limit is %v, want %v", limiter, c.qps)
			}
		})
	}
}

func TestSegmentsOfADriverWithoutTopology(t *testing.T) {
	all := new(house).segments().All()
	if len(all) != 1 || all[0].Len() != 0 || all[0].CSI() == nil {
		t.Errorf("got %v, want everywhere, which drivers are told as a topology without segments", all)
	}
	if _, fixed := new(house).segments().(capacity.Fixed); !fixed {
		t.Error("they may change")
	}
}
