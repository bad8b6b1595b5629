"""What scenes show: each plan is one function that places structures on a canvas."""
