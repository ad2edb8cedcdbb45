// Package waitlist knows which claims wait for which object. A claim is put on
// the list under every object that its verdict was made from, missing ones
// too, before the first of them is read; so no change can fall between reading
// and waiting. There is no client and no timer here: whoever sees an object
// change asks the list whom to wake.
package waitlist
