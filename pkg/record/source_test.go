package record_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
)

func ofVolume(handle string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: handle},
	}}
}

func ofSnapshot(handle string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: handle},
	}}
}

func TestFormatSource(t *testing.T) {
	long := strings.Repeat("é", 2044) // 4088 bytes
	for _, c := range []struct {
		name   string
		source *csi.VolumeContentSource
		want   string
	}{
		{"a blank volume", nil, ""},
		{"a source of no kind", &csi.VolumeContentSource{}, ""},
		{"a volume", ofVolume("vol-1"), "volume:vol-1"},
		{"a snapshot", ofSnapshot("snap-1"), "snapshot:snap-1"},
		{"a volume without a handle", ofVolume(""), ""},
		{"a snapshot without a handle", ofSnapshot(""), ""},
		{"a handle that looks like another", ofVolume("snapshot:1"), "volume:snapshot:1"},
		{"a handle of any characters", ofVolume(`a b/"{'<ü€😀\n`), `volume:a b/"{'<ü€😀\n`},
		{"a handle with a newline", ofVolume("a\nb"), ""},
		{"a handle with a zero byte", ofSnapshot("a\x00b"), ""},
		{"a handle with a control character of two bytes", ofVolume("a\u0085b"), ""},
		{"a handle that is no text", ofVolume("a\xff"), ""},
		{"a handle as long as can be", ofVolume(long + "a"), "volume:" + long + "a"},
		{"a handle too long", ofVolume(long + "ab"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := record.FormatSource(c.source); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestParseSource(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       *csi.VolumeContentSource
	}{
		{"a volume", "volume:vol-1", ofVolume("vol-1")},
		{"a snapshot", "snapshot:snap-1", ofSnapshot("snap-1")},
		{"only the first colon counts", "volume:snapshot:a:", ofVolume("snapshot:a:")},
		{"blanks belong to the handle", "volume: a ", ofVolume(" a ")},
		{"nothing", "", nil},
		{"a kind alone", "volume:", nil},
		{"a kind without a colon", "volume", nil},
		{"a kind that there is not", "claim:db", nil},
		{"a kind in capitals", "Volume:vol-1", nil},
		{"a blank in front", " volume:vol-1", nil},
		{"a handle alone", "vol-1", nil},
		{"a control character", "volume:vol\t1", nil},
		{"no text", "volume:\xff", nil},
		{"too long", "volume:" + strings.Repeat("a", 4<<10), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := record.ParseSource(c.text); !proto.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestPinnedSource(t *testing.T) {
	for pin, want := range map[string]string{
		"volume:vol-1": "volume:vol-1",
		"vol-1":        "",
		"":             "",
	} {
		c := claim("-", "-")
		c.Annotations[keys().ContentSource] = pin
		if got := record.Pinned(keys(), naming(), c).ContentSource; got != want {
			t.Errorf("%q is read as %q, want %q", pin, got, want)
		}
	}
}

func TestOf(t *testing.T) {
	req := &csi.CreateVolumeRequest{Name: "pvc-1", CapacityRange: &csi.CapacityRange{RequiredBytes: 7}}
	want := record.Pins{VolumeName: "pvc-1", RequiredBytes: 7}
	if got := record.Of(req); got != want {
		t.Errorf("a blank volume: %+v, want %+v", got, want)
	}
	req.VolumeContentSource, want.ContentSource = ofVolume("vol-1"), "volume:vol-1"
	if got := record.Of(req); got != want {
		t.Errorf("a clone: %+v, want %+v", got, want)
	}
}

func TestSays(t *testing.T) {
	blank := record.Pins{VolumeName: "pvc-" + uid, RequiredBytes: 7}
	clone := blank
	clone.ContentSource = "volume:vol-1"
	for _, c := range []struct {
		name, volume, bytes, source string
		pins                        record.Pins
		recorded, want              bool
	}{
		{"a blank volume", blank.VolumeName, "7", "-", blank, true, true},
		{"a clone", blank.VolumeName, "7", "volume:vol-1", clone, true, true},
		{"without the record", blank.VolumeName, "7", "volume:vol-1", clone, false, false},
		{"another name", "pvc-" + other, "7", "volume:vol-1", clone, true, false},
		{"other bytes", blank.VolumeName, "8", "volume:vol-1", clone, true, false},
		{"another source", blank.VolumeName, "7", "volume:vol-2", clone, true, false},
		{"another kind of source", blank.VolumeName, "7", "snapshot:vol-1", clone, true, false},
		{"no source", blank.VolumeName, "7", "-", clone, true, false},
		{"a source of a blank volume", blank.VolumeName, "7", "volume:vol-1", blank, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			pvc := claim(c.volume, c.bytes)
			if c.source != "-" {
				pvc.Annotations[keys().ContentSource] = c.source
			}
			if c.recorded {
				pvc.Finalizers = []string{keys().Finalizer}
			}
			if got := record.Says(keys(), pvc, c.pins); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

// Every source that a driver can have named is read back as it was, or is not written at
// all; and no text is read as a source that would be written otherwise.
func FuzzSource(f *testing.F) {
	for _, text := range []string{"volume:vol-1", "snapshot:vol-1", "volume:", "a\nb", "\xff", strings.Repeat("a", 5000), "é😀:"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		printable := utf8.ValidString(text) && text != ""
		for _, r := range text {
			if r < 0x20 || r >= 0x7f && r < 0xa0 {
				printable = false
			}
		}
		for kind, source := range map[string]*csi.VolumeContentSource{"volume:": ofVolume(text), "snapshot:": ofSnapshot(text)} {
			written := record.FormatSource(source)
			if can := printable && len(kind)+len(text) <= 4096; can != (written != "") {
				t.Errorf("%q is written as %q", text, written)
			}
			if written != "" && (written != kind+text || !proto.Equal(record.ParseSource(written), source)) {
				t.Errorf("%q is written as %q and read as %v", text, written, record.ParseSource(written))
			}
		}
		if source := record.ParseSource(text); source != nil && record.FormatSource(source) != text {
			t.Errorf("%q is read as %v", text, source)
		}
	})
}
