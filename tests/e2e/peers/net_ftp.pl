# A session of Perl's Net::FTP: net_ftp.pl HOST PORT PASSIVE REMOTE LOCAL UPLOAD NAME
# Fetches REMOTE to LOCAL and stores UPLOAD as NAME; PASSIVE is 0 or 1.
use strict;
use warnings;
use Net::FTP;

my ($host, $port, $passive, $remote, $local, $upload, $name) = @ARGV;
my $ftp = Net::FTP->new($host, Port => $port, Passive => $passive, Timeout => 20) or die $@;
$ftp->login('anonymous', 'nobody') or die $ftp->message;
$ftp->binary or die $ftp->message;
$ftp->get($remote, $local) or die $ftp->message;
$ftp->put($upload, $name) or die $ftp->message;
$ftp->quit;
