package cases_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/encoding/protojson"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/migration"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/request"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/volume"
)

// input is what a case is made of. The names are those in the files.
type input struct {
	// Flags of the provisioner, as they are called on its command line.
	Flags struct {
		Prefix     string `json:"volume-name-prefix"`
		UUIDLength int    `json:"volume-name-uuid-length"`
		FSType     string `json:"default-fstype"`
		Metadata   bool   `json:"extra-create-metadata"`
		ReadOnly   bool   `json:"controller-publish-readonly"`
		Attributes bool   `json:"VolumeAttributesClass"`
		KeepMode   bool   `json:"prevent-volume-mode-conversion"`
		Topology   bool   `json:"Topology"`
		Strict     bool   `json:"strict-topology"`
		Immediate  bool   `json:"immediate-topology"`
	} `json:"flags"`
	// Driver is who is asked. Capabilities that matter here are all in the list.
	Driver struct {
		Name         string   `json:"name"`
		Capabilities []string `json:"capabilities"`
	} `json:"driver"`
	Class      *storagev1.StorageClass          `json:"class"`
	Claim      *v1.PersistentVolumeClaim        `json:"claim"`
	Attributes *storagev1.VolumeAttributesClass `json:"attributesClass"`
	// Source of a clone that was found fit.
	Source *source.Volume `json:"source"`
	// Snapshot that the claim is restored from, and what it is bound to, as the API server
	// has them.
	Snapshot map[string]any `json:"snapshot"`
	Content  map[string]any `json:"content"`
	// Nodes of the cluster, by name.
	Nodes map[string]node `json:"nodes"`
	// Reach is from where the source of a clone can be reached.
	Reach []map[string]string `json:"reach"`
	// Recorded is what the record of an earlier process says.
	Recorded struct {
		Bytes int64 `json:"bytes"`
		// Topology that the request began with, which may have made something.
		Topology string `json:"topology"`
		MayExist bool   `json:"mayExist"`
	} `json:"recorded"`
	// Reply of the driver, in JSON as protobuf has it.
	Reply json.RawMessage `json:"reply"`
}

// read lays the YAML of a case over that of the plain one.
func read(t *testing.T, base []byte, text string) input {
	t.Helper()
	var whole, patch any
	if err := yaml.Unmarshal(base, &whole); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(text), &patch); err != nil {
		t.Fatal(err)
	}
	if patch != nil {
		whole = merge(whole, patch)
	}
	merged, err := yaml.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	var in input
	if err := yaml.UnmarshalStrict(merged, &in); err != nil {
		t.Fatalf("%v\n%s", err, merged)
	}
	return in
}

// merge lays one object over another, as in a JSON merge patch (RFC 7386): null takes a
// field away, a list replaces a list.
func merge(base, patch any) any {
	over, isObject := patch.(map[string]any)
	if !isObject {
		return patch
	}
	under, _ := base.(map[string]any)
	merged := maps.Clone(under)
	if merged == nil {
		merged = map[string]any{}
	}
	for key, value := range over {
		if value == nil {
			delete(merged, key)
		} else {
			merged[key] = merge(merged[key], value)
		}
	}
	return merged
}

// outcome goes the way of a claim that is provisioned, and returns what became of it as
// lines of "path: value".
func outcome(t *testing.T, in input) []string {
	t.Helper()
	name := record.Naming{Prefix: in.Flags.Prefix, UUIDLength: in.Flags.UUIDLength}.VolumeName(in.Claim.UID)
	can := func(capability string) bool { return slices.Contains(in.Driver.Capabilities, capability) }
	from := in.Source
	if source.Of(in.Claim).Kind == source.Snapshot {
		var v verdict.Verdict
		if from, v = source.Judge(restore(in, can("CREATE_DELETE_SNAPSHOT"))); !v.Ready() {
			return words(v)
		}
	}
	plugin := migration.Of(in.Driver.Name)
	class, v := plugin.Class(in.Class)
	if !v.Ready() {
		return words(v)
	}
	build := request.Input{
		Claim: in.Claim, Class: class, Source: from, Name: name, PinnedBytes: in.Recorded.Bytes,
		DefaultFSType: in.Flags.FSType, ExtraMetadata: in.Flags.Metadata, SingleNodeMultiWriter: can("SINGLE_NODE_MULTI_WRITER"),
	}
	attributesClass := ""
	if asked := in.Claim.Spec.VolumeAttributesClassName; asked != nil && *asked != "" {
		v := request.JudgeAttributes(request.Attributes{
			Name: *asked, Class: in.Attributes, Driver: in.Driver.Name, Modifies: can("MODIFY_VOLUME"), Heeded: in.Flags.Attributes,
		})
		if !v.Ready() {
			return words(v)
		}
		build.Attributes, attributesClass = in.Attributes, *asked
	}
	hasTopology := in.Flags.Topology && can("VOLUME_ACCESSIBILITY_CONSTRAINTS")
	if hasTopology {
		if build.Accessibility, v = topology.Require(where(in, class)); !v.Ready() {
			return words(v)
		}
	}
	req, v := request.Build(build)
	if !v.Ready() {
		return words(v)
	}
	refs, v := secret.Resolve(class, secret.About{
		PV: name, Claim: in.Claim.Name, Namespace: in.Claim.Namespace, Annotations: in.Claim.Annotations,
	})
	if !v.Ready() {
		return words(v)
	}
	lines := flatten("request", fields(t, func() ([]byte, error) {
		return protojson.MarshalOptions{UseProtoNames: true}.Marshal(req)
	}))
	if !refs.Provisioner.IsZero() {
		lines = append(lines, "request.secrets: the content of Secret "+refs.Provisioner.String())
	}
	resp := &csi.CreateVolumeResponse{}
	if err := protojson.Unmarshal(in.Reply, resp); err != nil {
		t.Fatal(err)
	}
	if err := volume.Check(req, resp); err != nil {
		return append(lines, "reply: "+err.Error())
	}
	pv := volume.Build(volume.Input{
		Claim: in.Claim, Class: in.Class, Driver: in.Driver.Name, Identity: "IDENTITY", Request: req, Response: resp,
		ReclaimPolicy: volume.ReclaimPolicy("", "", in.Class),
		Secrets:       refs, AttributesClass: attributesClass, PublishReadOnly: in.Flags.ReadOnly,
		Topology: hasTopology,
	})
	if plugin.Is(in.Class.Provisioner) {
		var err error
		if pv, err = plugin.FromCSI(pv); err != nil {
			return append(lines, "reply: "+err.Error())
		}
	}
	return append(lines, flatten("pv", fields(t, func() ([]byte, error) { return json.Marshal(pv) }))...)
}

// node is a node of the cluster.
type node struct {
	// Labels of the Node, and Keys of the driver's topology in the CSINode.
	Labels map[string]string `json:"labels"`
	Keys   []string          `json:"keys"`
	// Gone: there is no Node; Unregistered: there is no CSINode; Idle: the driver does not
	// run there.
	Gone         bool `json:"gone"`
	Unregistered bool `json:"unregistered"`
	Idle         bool `json:"idle"`
}

// known is what is known of the node of that name.
func (n node) known(name string) topology.Node {
	known := topology.Node{Name: name, Exists: !n.Gone, Registered: !n.Unregistered, Runs: !n.Unregistered && !n.Idle, Keys: n.Keys}
	if known.Exists && known.Runs {
		known.Place, known.Missing = topology.Place(n.Labels, n.Keys)
	}
	return known
}

// where returns the facts about the places that the volume may have.
func where(in input, class *storagev1.StorageClass) topology.Facts {
	facts := topology.Facts{
		Driver: in.Driver.Name, Class: in.Class.Name, Claim: in.Claim.Name,
		Allowed: topology.Allowed(class.AllowedTopologies), Strict: in.Flags.Strict, Immediate: in.Flags.Immediate,
		MayExist: in.Recorded.MayExist, Pinned: topology.Parse(in.Recorded.Topology),
	}
	for _, segments := range in.Reach {
		facts.Source = append(facts.Source, topology.TermOf(segments))
	}
	for name, n := range in.Nodes {
		if known := n.known(name); known.Exists && known.Runs && known.Place.Len() > 0 {
			facts.Cluster = append(facts.Cluster, known.Place)
		}
	}
	facts.Cluster = topology.Sorted(facts.Cluster)
	if selected := in.Claim.Annotations["volume.kubernetes.io/selected-node"]; selected != "" {
		facts.Selected = topology.Node{Name: selected}
		if n, found := in.Nodes[selected]; found {
			facts.Selected = n.known(selected)
		}
	}
	return facts
}

// restore returns the facts about a claim that is restored from a snapshot.
func restore(in input, can bool) source.Facts {
	facts := source.Facts{Claim: in.Claim, Driver: in.Driver.Name, CanRestore: can, KeepMode: in.Flags.KeepMode, Strict: true}
	if in.Snapshot != nil {
		facts.Snapshot = source.SnapshotOf(&unstructured.Unstructured{Object: in.Snapshot})
	}
	if in.Content != nil {
		facts.Content = source.ContentOf(&unstructured.Unstructured{Object: in.Content})
	}
	return facts
}

func words(v verdict.Verdict) []string {
	return []string{fmt.Sprintf("%s: %s: %s", map[verdict.Kind]string{verdict.Refuse: "refused", verdict.Wait: "waits", verdict.GiveBack: "given back"}[v.Kind], v.Reason, v.Message)}
}

func fields(t *testing.T, encode func() ([]byte, error)) any {
	t.Helper()
	data, err := encode()
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		t.Fatal(err)
	}
	delete(object, "status")
	return object
}

// flatten returns one line for each value, sorted by its path. An empty object or list
// is a value.
func flatten(path string, value any) []string {
	var lines []string
	switch v := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			step := "." + key
			if strings.ContainsAny(key, "./ ") {
				step = fmt.Sprintf("[%q]", key)
			}
			lines = append(lines, flatten(path+step, v[key])...)
		}
		if len(v) > 0 {
			return lines
		}
		return []string{path + ": {}"}
	case []any:
		for i, item := range v {
			lines = append(lines, flatten(fmt.Sprintf("%s[%d]", path, i), item)...)
		}
		if len(v) > 0 {
			return lines
		}
		return []string{path + ": []"}
	case nil:
		return nil
	case string:
		if v == "" || v != strings.TrimSpace(v) || strings.Contains(v, "\n") {
			return []string{fmt.Sprintf("%s: %q", path, v)}
		}
		return []string{path + ": " + v}
	}
	return []string{fmt.Sprintf("%s: %v", path, value)}
}

// against returns the lines that are not in the plain outcome, and those of it that are
// missing, with a dash in front.
func against(plain, lines []string) []string {
	pathOf := func(l string) string { path, _, _ := strings.Cut(l, ": "); return path }
	var changed []string
	paths := map[string]bool{}
	for _, l := range lines {
		paths[pathOf(l)] = true
		if !slices.Contains(plain, l) {
			changed = append(changed, l)
		}
	}
	ended := len(lines) > 0 && !strings.HasPrefix(lines[len(lines)-1], "pv")
	for _, l := range plain {
		unreached := ended && (strings.HasPrefix(l, "pv") || !paths["request.name"])
		if !paths[pathOf(l)] && !unreached {
			changed = append(changed, "- "+l)
		}
	}
	return changed
}
