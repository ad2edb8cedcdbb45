package source

import (
	"fmt"
	"math"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Bytes returns a quantity in whole bytes, fractions rounded up; what is less
// than nothing is 0. If that does not fit into 63 bits it returns the largest
// number that does, and false.
//
// Quantity's own Value wraps around: 20E becomes 0, and twenty digits without a
// suffix 1.5E. Its Cmp and String count all the digits, which takes minutes for
// a size such as 1e100000000, and the API server lets users write that.
func Bytes(q resource.Quantity) (bytes int64, fits bool) {
	switch {
	case q.Sign() <= 0:
		return 0, true
	case q.AsApproximateFloat64() >= 1<<64:
		return math.MaxInt64, false
	}
	// Of what has 64 bits Value makes a negative number, or 0.
	if bytes = q.Value(); bytes <= 0 {
		return math.MaxInt64, false
	}
	return bytes, true
}

// Written returns a quantity for a message, in few characters.
func Written(q resource.Quantity) string {
	switch {
	case q.Sign() == 0:
		return "0"
	case q.AsApproximateFloat64() > 1.01e30:
		return "more than 1e30"
	case q.AsApproximateFloat64() < -1.01e30:
		return "less than -1e30"
	}
	if text := q.String(); len(text) <= 60 {
		return text
	}
	// It is still as the user wrote it, with a page of zeros in front perhaps.
	return resource.NewDecimalQuantity(*q.AsDec(), q.Format).String()
}

// enough says whether a request is at least as large as another, to the last
// fraction of a byte. One that does not fit into 63 bits is, whatever the other:
// nothing can be made of it, which is for request.RequiredBytes to say.
func enough(asked, needed resource.Quantity) bool {
	has, fits := Bytes(asked)
	least, known := Bytes(needed)
	switch {
	case !fits:
		return true
	case !known:
		return false
	case has != least:
		return has > least
	}
	return has == 0 || asked.Cmp(needed) >= 0 // 0 is for RequiredBytes, too
}

// report is a capacity of the source volume, and who says so.
type report struct {
	by       string
	capacity resource.Quantity
}

// reports returns what PV and claim say of the source volume: after an expansion
// either may lag behind.
func reports(f Facts) []report {
	list := []report{{fmt.Sprintf("its PV %q", f.SourcePV.Name), f.SourcePV.Spec.Capacity[v1.ResourceStorage]}}
	if f.Source != nil {
		list = append(list, report{"its status", f.Source.Status.Capacity[v1.ResourceStorage]})
	}
	return list
}
