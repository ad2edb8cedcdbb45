package arbitrary

import (
	"math/big"
	"regexp"
	"unicode/utf8"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// longExponent has so many digits that Kubernetes' own parser takes seconds for
// the number: fuzzing would find nothing else.
var longExponent = regexp.MustCompile(`[eE][+-]?[0-9]{4,}`)

// Storage returns a list that holds the size; nil if the text is no quantity,
// or one that costs too much time to read.
func Storage(text string) v1.ResourceList {
	if longExponent.MatchString(text) || len(text) > 100 {
		return nil
	}
	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		return nil
	}
	return v1.ResourceList{v1.ResourceStorage: quantity}
}

// Exact returns the size in the list as a fraction, without any of Quantity's
// own arithmetic; 0 if there is none.
func Exact(list v1.ResourceList) *big.Rat {
	quantity := list[v1.ResourceStorage].DeepCopy()
	decimal := quantity.AsDec()
	power := func(exponent int64) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(exponent), nil) }
	exact := new(big.Rat).SetInt(decimal.UnscaledBig())
	if scale := int64(decimal.Scale()); scale > 0 {
		return exact.Quo(exact, new(big.Rat).SetInt(power(scale)))
	}
	return exact.Mul(exact, new(big.Rat).SetInt(power(-int64(decimal.Scale()))))
}

// Bytes returns the size in the list in whole bytes, rounded up. ok is false if
// it is not between 1 and what 63 bits hold.
func Bytes(list v1.ResourceList) (bytes int64, ok bool) {
	exact := Exact(list)
	whole, rest := new(big.Int).DivMod(exact.Num(), exact.Denom(), new(big.Int))
	if rest.Sign() != 0 {
		whole.Add(whole, big.NewInt(1))
	}
	if whole.Sign() <= 0 || !whole.IsInt64() {
		return 0, false
	}
	return whole.Int64(), true
}

// Texts says whether all are valid UTF-8, as every text in the API is.
func Texts(texts ...string) bool {
	for _, text := range texts {
		if !utf8.ValidString(text) {
			return false
		}
	}
	return true
}
