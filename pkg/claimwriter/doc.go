// Package claimwriter writes to claims: by patch where RBAC grants that, else by an
// update of the whole live object in raw form. A typed round trip would drop fields
// that are newer than our client.
package claimwriter
