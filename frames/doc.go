// Package frames parses and writes the WebSocket wire format of RFC 6455.
//
// It is pure: []byte goes in, the number of bytes consumed comes out. It knows
// no connection and no clock, and it imports only the standard library.
//
// # Reading
//
// A [Reader] takes the bytes of one [Direction] and cuts them into messages.
// Each [Message] carries two views of the same bytes: Data is what the
// application will see, Wire is what was received. An inspector judges Data
// and forwards Wire, so that mask keys, fragmentation and payload leave as
// they came.
//
// A fragmented message is held by the Reader until its last frame is in.
// Control frames that arrive between its fragments come out at once: they
// overtake it, as Section 5.4 permits. That is the only change of order.
//
// # Where each section lives
//
//	Section 5.1    masking by direction                      sequence.go
//	Section 5.2    header, minimal lengths                   header.go
//	               RSV bits, reserved opcodes                sequence.go, opcode.go
//	Section 5.3    masking                                   mask.go
//	Section 5.4    fragmentation                             sequence.go, reader.go
//	Section 5.5    control frames, nothing after Close       sequence.go
//	Section 5.5.1  payload of Close                          close.go
//	Section 5.6    text is UTF-8 as a whole message          message.go
//	Section 7.4    close codes                               close.go
//	Section 8.1    UTF-8 errors                              message.go, close.go
//	Section 10.4   limits of size                            reader.go
//
//	RFC 7692, 6.1  RSV1                                      sequence.go
//	RFC 7692, 7    what is offered and agreed on             extension.go, extension_deflate.go
//	RFC 7692, 7.2.2  inflating                               inflate.go and its parts
//
// # What is refused
//
// Every violation is a [*ProtocolError], which knows the close code that
// answers it: 1002 for a broken MUST, 1007 for text that is not UTF-8, 1009
// for a message over the limits of the Reader, inflated or not. An RSV bit is
// refused unless it is that of permessage-deflate and this was agreed on
// ([Agree], [Reader.UseDeflate]).
//
// # Lifetimes
//
// No call keeps the []byte that it was given. The slices of a Message belong
// to the Reader or to the caller's own input, and are good until the next call
// of [Reader.Next] or [Reader.Release]. Buffers come from a pool shared by all
// Readers, so that in steady state no message costs an allocation, and an idle
// Reader holds none of them after Release.
package frames
