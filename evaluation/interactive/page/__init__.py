"""A page to try methods by hand: clicks and boxes on images of datasets or on one's own."""
