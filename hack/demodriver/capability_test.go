package demodriver_test

import (
	"context"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
)

func TestACapabilityThatIsSwitchedOffIsNeitherOfferedNorServed(t *testing.T) {
	cases := []struct {
		name string
		off  csi.ControllerServiceCapability_RPC_Type
		code codes.Code
		call func(ctx context.Context, s *served) error
	}{
		{"volumes", csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME, codes.Unimplemented,
			func(ctx context.Context, s *served) error {
				_, err := s.CreateVolume(ctx, request("a"))
				return err
			}},
		{"clones", csi.ControllerServiceCapability_RPC_CLONE_VOLUME, codes.InvalidArgument,
			func(ctx context.Context, s *served) error {
				_, err := s.CreateVolume(ctx, request("a", cloneOf("vol-0")))
				return err
			}},
		{"snapshots", csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT, codes.Unimplemented,
			func(ctx context.Context, s *served) error {
				_, err := s.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: "a", SourceVolumeId: "vol-0"})
				return err
			}},
		{"listing snapshots", csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS, codes.Unimplemented,
			func(ctx context.Context, s *served) error {
				_, err := s.ListSnapshots(ctx, &csi.ListSnapshotsRequest{})
				return err
			}},
		{"listing volumes", csi.ControllerServiceCapability_RPC_LIST_VOLUMES, codes.Unimplemented,
			func(ctx context.Context, s *served) error {
				_, err := s.ListVolumes(ctx, &csi.ListVolumesRequest{})
				return err
			}},
		{"capacity", csi.ControllerServiceCapability_RPC_GET_CAPACITY, codes.Unimplemented,
			func(ctx context.Context, s *served) error {
				_, err := s.GetCapacity(ctx, &csi.GetCapacityRequest{})
				return err
			}},
		{"the newer access modes", csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER, codes.InvalidArgument,
			func(ctx context.Context, s *served) error {
				req := request("a")
				req.VolumeCapabilities = []*csi.VolumeCapability{mount(csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER)}
				_, err := s.CreateVolume(ctx, req)
				return err
			}},
	}
	all := offered(t, serve(t, demodriver.Config{}))
	if len(all) != len(cases) {
		t.Fatalf("%d capabilities are offered, the table has %d", len(all), len(cases))
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, demodriver.Config{Without: []csi.ControllerServiceCapability_RPC_Type{tc.off}})
			if got := offered(t, s); len(got) != len(all)-1 || slices.Contains(got, tc.off) {
				t.Errorf("offered are %v, want all but %s", got, tc.off)
			}
			if err := tc.call(t.Context(), s); status.Code(err) != tc.code {
				t.Errorf("got %v, want %s", err, tc.code)
			}
		})
	}
}

func offered(t *testing.T, s *served) []csi.ControllerServiceCapability_RPC_Type {
	t.Helper()
	resp, err := s.ControllerGetCapabilities(t.Context(), &csi.ControllerGetCapabilitiesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var out []csi.ControllerServiceCapability_RPC_Type
	for _, c := range resp.GetCapabilities() {
		out = append(out, c.GetRpc().GetType())
	}
	return out
}

func TestPluginCapabilities(t *testing.T) {
	const (
		service  = csi.PluginCapability_Service_CONTROLLER_SERVICE
		topology = csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS
	)
	segments := map[string]string{"zone": "a"}
	cases := []struct {
		name   string
		config demodriver.Config
		want   []csi.PluginCapability_Service_Type
		code   codes.Code // of a controller call
	}{
		{"without segments there is no topology", demodriver.Config{}, []csi.PluginCapability_Service_Type{service}, codes.OK},
		{"with segments there is", demodriver.Config{Segments: segments}, []csi.PluginCapability_Service_Type{service, topology}, codes.OK},
		{"topology can be switched off", demodriver.Config{Segments: segments,
			WithoutPlugin: []csi.PluginCapability_Service_Type{topology}}, []csi.PluginCapability_Service_Type{service}, codes.OK},
		{"the controller service can be switched off", demodriver.Config{
			WithoutPlugin: []csi.PluginCapability_Service_Type{service}}, nil, codes.Unimplemented},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, tc.config)
			resp, err := s.GetPluginCapabilities(t.Context(), &csi.GetPluginCapabilitiesRequest{})
			if err != nil {
				t.Fatal(err)
			}
			var got []csi.PluginCapability_Service_Type
			for _, c := range resp.GetCapabilities() {
				got = append(got, c.GetService().GetType())
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("capabilities are %v, want %v", got, tc.want)
			}
			if _, err := s.CreateVolume(t.Context(), request("a")); status.Code(err) != tc.code {
				t.Errorf("a controller call got %v, want %s", err, tc.code)
			}
		})
	}
}

func TestTopologyDecidesWhoCanReachAVolume(t *testing.T) {
	here := map[string]string{"zone": "a", "node": "1"}
	s := serve(t, demodriver.Config{Segments: here, NodeID: "n"})
	info, err := s.NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
	if err != nil || info.GetNodeId() != "n" || info.GetAccessibleTopology().GetSegments()["node"] != "1" {
		t.Fatalf("node info is %v (%v)", info, err)
	}
	volume := s.create(t, request("a", required(map[string]string{"zone": "a"})))
	if got := volume.GetAccessibleTopology(); len(got) != 1 || got[0].GetSegments()["zone"] != "a" {
		t.Fatalf("volume is accessible from %v, want zone a", got)
	}
	elsewhere := map[string]string{"zone": "b", "node": "1"}
	if _, err := s.CreateVolume(t.Context(), request("b", required(elsewhere))); status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("a volume for elsewhere got %v, want ResourceExhausted", err)
	}
	if _, err := s.CreateVolume(t.Context(), request("a", required(elsewhere))); status.Code(err) != codes.AlreadyExists {
		t.Fatalf("an existing volume for elsewhere got %v, want AlreadyExists", err)
	}
	for _, tc := range []struct {
		at   map[string]string
		some bool
	}{{here, true}, {elsewhere, false}, {nil, true}} {
		resp, err := s.GetCapacity(t.Context(), &csi.GetCapacityRequest{AccessibleTopology: &csi.Topology{Segments: tc.at}})
		if err != nil || (resp.GetAvailableCapacity() > 0) != tc.some {
			t.Errorf("capacity at %v is %d (%v), want some: %t", tc.at, resp.GetAvailableCapacity(), err, tc.some)
		}
	}
}

func TestAConfigThatCannotWorkIsRefused(t *testing.T) {
	cases := []struct {
		name   string
		config demodriver.Config
		err    string
	}{
		{"no directory", demodriver.Config{Name: "a"}, `demo driver "a" has no directory; set Dir`},
		{"a tiny granularity", demodriver.Config{Name: "a", Dir: "/d", Granularity: 512}, `granularity of demo driver "a" is 512 bytes; use 1048576 or more`},
		{"a negative capacity", demodriver.Config{Name: "a", Dir: "/d", Capacity: -1}, `capacity of demo driver "a" is -1 bytes; use 0 (no limit) or more`},
		{"an unknown publish mode", demodriver.Config{Name: "a", Dir: "/d", PublishMode: "nfs"}, `publish mode of demo driver "a" is "nfs"; use auto, mount or symlink`},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := demodriver.New(tc.config); err == nil || err.Error() != tc.err {
				t.Fatalf("got  %v\nwant %s", err, tc.err)
			}
		})
	}
}
