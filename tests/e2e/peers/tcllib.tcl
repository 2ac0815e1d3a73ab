# A session of tcllib's ftp: tcllib.tcl HOST PORT active|passive REMOTE LOCAL UPLOAD NAME
# Fetches REMOTE to LOCAL and stores UPLOAD as NAME.
package require ftp

lassign $argv host port mode remote local upload name
set session [ftp::Open $host anonymous nobody -port $port -mode $mode -timeout 20]
ftp::Type $session binary
if {![ftp::Get $session $remote $local]} { error "not fetched" }
if {![ftp::Put $session $upload $name]} { error "not stored" }
ftp::Close $session
