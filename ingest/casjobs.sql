-- The spectroscopic sample of Hayat et al. 2021 (ApJL 911, L33): SDSS main galaxies with a redshift, dereddened
-- petrosian r <= 17.8 and 0 < z <= 0.4, with all columns that `python -m ingest run --catalog` reads.
--
-- How to run it
--   1. Log in at CasJobs, SDSS's batch query service (an account is free).
--   2. Page "Query": choose the context DR12, paste this file, press "Submit" (it takes longer than "Quick" allows).
--      The result goes to a table of your own, MyDB.skymill_spectroscopic; to run it again, drop that table first.
--   3. Page "MyDB": choose the table, "Download" as CSV or FITS, and fetch the file from the page "Output".
--   4. python -m ingest run --catalog skymill_spectroscopic.csv --frames ... --out ...
--   Do not open the CSV in a spreadsheet on the way: it rounds objID to 15 digits.
--
-- What it gives
--   objID, ra, dec, run, rerun, camcol, field   where the galaxy is; objID is an integer of 64 bits
--   thing_id                                    the galaxy's identity over all its observations; splits follow it
--   specz, specz_err                            spectroscopic redshift (SpecObjAll.z: a column `z` would be a band)
--   e_bv_sfd                                    E(B-V) of Schlegel, Finkbeiner and Davis 1998; read as ebv_sfd
--   extinction_u..z                             A_u..z [mag]; in DR12 by the coefficients of SFD 1998
--   psffwhm_u..z                                width of the PSF [arcsec]; read as psf_fwhm_u..z
--   petroMag_r                                  asinh magnitude, for --max-petro-r 17.8 --dereddened
--   flags                                       64-bit photometric flags, for --reject-flags
--   others                                      history, and the survey's own photometric redshift: kept as labels
--   Names are matched without case or underscores. -9999 means missing.
--
-- One row a galaxy: where several spectra name the same bestObjID, the one with the smallest specObjID stays.
--
-- How many rows to expect: the paper reports 516,525 galaxies; another group that used these conditions on DR12 reports
-- 547,199 rows, without the rule of one row a galaxy. It was not run for this file.
--
-- The paper's unlabelled sample of about 1.2 million galaxies came from another query, which is not public.

SELECT
  po.objID, po.ra, po.dec, po.run, po.rerun, po.camcol, po.field,
  po.thingId AS thing_id,
  sp.specObjID, sp.z AS specz, sp.zErr AS specz_err,
  zp.z AS zphot, zp.zErr AS zphot_err,
  sp.e_bv_sfd,
  po.extinction_u, po.extinction_g, po.extinction_r, po.extinction_i, po.extinction_z,
  po.psffwhm_u, po.psffwhm_g, po.psffwhm_r, po.psffwhm_i, po.psffwhm_z,
  po.petroMag_r,
  po.flags,
  po.calibStatus_u, po.calibStatus_g, po.calibStatus_r, po.calibStatus_i, po.calibStatus_z,
  po.resolveStatus, po.nObserve, po.parentID, po.nChild
INTO MyDB.skymill_spectroscopic
FROM (
  -- Ranked after all conditions on spectra, so that a rejected spectrum cannot hide a good one. Those on the photometry,
  -- below, are the same for all spectra of a bestObjID.
  SELECT
    za.bestObjID, za.specObjID, za.z, za.zErr, zi.e_bv_sfd,
    ROW_NUMBER() OVER (PARTITION BY za.bestObjID ORDER BY za.specObjID) AS spectrum
  FROM SpecObjAll AS za
    JOIN galSpecInfo AS zi ON zi.SpecObjID = za.specObjID
  WHERE za.z > 0 AND za.z <= 0.4 AND za.zWarning = 0
    AND za.targetType = 'SCIENCE' AND za.survey = 'sdss' AND za.class = 'GALAXY'
    AND zi.primtarget >= 64
) AS sp
  JOIN PhotoObjAll AS po ON po.objID = sp.bestObjID
  JOIN Photoz AS zp ON zp.objID = po.objID
WHERE sp.spectrum = 1
  AND po.clean = 1 AND po.insideMask = 0
  AND po.petroMag_r - po.extinction_r <= 17.8
