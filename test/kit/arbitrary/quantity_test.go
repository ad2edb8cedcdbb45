package arbitrary_test

import (
	"math"
	"math/big"
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/arbitrary"
)

func TestExact(t *testing.T) {
	for text, want := range map[string]*big.Rat{
		"":        new(big.Rat),
		"nothing": new(big.Rat),
		"0":       new(big.Rat),
		"1.5":     big.NewRat(3, 2),
		"-100m":   big.NewRat(-1, 10),
		"1Ki":     big.NewRat(1024, 1),
		"1k":      big.NewRat(1000, 1),
		"12e3":    big.NewRat(12000, 1),
		"20E":     new(big.Rat).Mul(big.NewRat(20_000_000_000, 1), big.NewRat(1_000_000_000, 1)),
	} {
		if got := arbitrary.Exact(arbitrary.Storage(text)); got.Cmp(want) != 0 {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "-1": 0, "-100m": 0, "100m": 1, "1": 1, "1500m": 2, "1Gi": 1 << 30,
		"9223372036854775807": math.MaxInt64, "9223372036854775807.5": 0, "9223372036854775808": 0, "20E": 0,
	} {
		if got, ok := arbitrary.Bytes(arbitrary.Storage(text)); got != want || ok != (want > 0) {
			t.Errorf("%q is %d (%t), want %d", text, got, ok, want)
		}
	}
}

func TestStorageLeavesOutWhatTakesTooLong(t *testing.T) {
	for text, want := range map[string]bool{
		"1e999": true, "1E-999": true, "1E": true, "1e1000": false, "1E+1000": false, "1e-100000000": false, "x": false, "": false,
	} {
		if got := arbitrary.Storage(text) != nil; got != want {
			t.Errorf("%q is taken: %t, want %t", text, got, want)
		}
	}
}

func TestTexts(t *testing.T) {
	if !arbitrary.Texts("", "größer") || arbitrary.Texts("a", "\xff") {
		t.Error("cannot tell what is UTF-8")
	}
}
