# Memory work for perl: hashes, strings, regular expressions, nested data, fork.
use strict;
use warnings;

# A generator of our own: rand() need not be the same on every perl.
my $state = 12345;
sub rnd { my ($n) = @_; $state = ($state * 1103515245 + 12345) % 2147483648; return int($state / 65536) % $n; }
sub word { join '', map { chr(97 + rnd(26)) } 1 .. 1 + rnd(12) }

sub checksum {
    my $sum = 0;
    $sum = ($sum * 31 + $_) % 4294967291 for map { ord } split //, $_[0];
    return $sum;
}

my (%count, %index);
for my $line (1 .. 60_000) {
    my $word = word();
    $count{$word}++;
    push @{ $index{ length $word }{ substr $word, 0, 1 } }, $line;
}
my @top = (sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count)[0 .. 9];
print "words ", scalar(keys %count), ": @top\n";
for my $length (sort { $a <=> $b } keys %index) {
    print "length $length: ", join(' ', map { "$_=" . scalar @{ $index{$length}{$_} } } sort keys %{ $index{$length} }), "\n";
}

my $text = join ' ', map { word() } 1 .. 100_000;
my $replaced = ($text =~ s/([aeiou]+)([^aeiou ])/<$2$1>/g);
print "text ", length($text), " replaced $replaced, ", checksum(substr $text, 0, 200_000), "\n";
my @sorted = sort { length $a <=> length $b || $a cmp $b } split ' ', $text;
print "sorted $sorted[0] $sorted[50_000] $sorted[-1]\n";

my $grown = '';
for my $i (1 .. 200_000) { $grown .= chr(33 + $i % 90); substr($grown, 0, 500) = '' if length $grown > 100_000; }
print "grown ", length($grown), ' ', checksum($grown), "\n";

# Each child changes what it inherited and builds more; the pipe keeps their order.
$| = 1;
for my $child (1 .. 4) {
    my $pid = open(my $pipe, '-|') // die "fork: $!";
    if (!$pid) {
        $state += $child;
        delete @count{ grep { rnd(2) } sort keys %count };
        my %mine = map { word() => $_ } 1 .. 20_000;
        print "child $child ", scalar(keys %count), ' ', scalar(keys %mine), "\n";
        exit 0;
    }
    print while <$pipe>;
    close $pipe or die "child $child failed";
}
